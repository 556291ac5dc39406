package dev.halter.files;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;

/** Comma-separated values by RFC 4180, with a header: fields may be quoted and span lines. */
public final class Csv {
  /** Longest table that is read. */
  private final Path file;

  private final String text;
  private int at;
  private int line = 1;

  private Csv(Path file, String text) {
    this.file = file;
    this.text = text;
  }

  /**
   * The rows of a file, see {@link #parse}.
   *
   * @throws BadFileException if it cannot be read, is larger than 64 MB, or is no such table
   */
  public static List<Map<String, String>> read(Path file) {
    return parse(file, TextFile.readUnmarked(file));
  }

  /**
   * The rows of a text by the names in its first record.
   *
   * @throws BadFileException naming the line that is no record of the header's fields
   */
  public static List<Map<String, String>> parse(Path file, String text) {
    Csv csv = new Csv(file, text);
    List<String> names = csv.record();
    List<Map<String, String>> rows = new ArrayList<>();
    while (csv.at < csv.text.length()) {
      int first = csv.line;
      List<String> fields = csv.record();
      if (fields.equals(List.of(""))) {
        continue; // a blank line
      }
      Map<String, String> row = new LinkedHashMap<>();
      for (int i = 0; i < Math.min(names.size(), fields.size()); i++) {
        row.put(names.get(i), fields.get(i));
      }
      if (fields.size() != names.size() || row.size() != names.size()) {
        throw new BadFileException(
            file,
            "line %d has %d fields, but the header names %d: %s"
                .formatted(first, fields.size(), names.size(), String.join(", ", names)));
      }
      rows.add(row);
    }
    return rows;
  }

  /**
   * The records of a file without a header, blank lines left out.
   *
   * @throws BadFileException if it cannot be read, or a quote is not closed
   */
  public static List<List<String>> readRecords(Path file) {
    Csv csv = new Csv(file, TextFile.readUnmarked(file));
    List<List<String>> records = new ArrayList<>();
    while (csv.at < csv.text.length()) {
      List<String> fields = csv.record();
      if (!fields.equals(List.of(""))) {
        records.add(fields);
      }
    }
    return records;
  }

  /** A record with its line end, as {@link #parse} reads it. */
  public static String line(String... fields) {
    StringJoiner line = new StringJoiner(",", "", "\n");
    for (String field : fields) {
      boolean plain = field.chars().noneMatch(c -> ",\"\r\n".indexOf(c) >= 0);
      line.add(plain ? field : '"' + field.replace("\"", "\"\"") + '"');
    }
    return line.toString();
  }

  private List<String> record() {
    List<String> fields = new ArrayList<>();
    do {
      fields.add(at < text.length() && text.charAt(at) == '"' ? quoted() : plain());
    } while (take(','));
    take('\r');
    if (at < text.length() && !take('\n')) {
      throw new BadFileException(file, "line " + line + " has text after a closing quote");
    }
    line++;
    return fields;
  }

  private boolean take(char wanted) {
    boolean found = at < text.length() && text.charAt(at) == wanted;
    at += found ? 1 : 0;
    return found;
  }

  private String plain() {
    int from = at;
    while (at < text.length() && ",\r\n".indexOf(text.charAt(at)) < 0) {
      at++;
    }
    return text.substring(from, at);
  }

  private String quoted() {
    int first = line;
    StringBuilder field = new StringBuilder();
    at++;
    while (at < text.length()) {
      char c = text.charAt(at++);
      if (c != '"') {
        line += c == '\n' ? 1 : 0;
        field.append(c);
      } else if (take('"')) {
        field.append('"');
      } else {
        return field.toString();
      }
    }
    throw new BadFileException(file, "line " + first + " opens a quote that nothing closes");
  }
}
