package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.GrowingFile;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.WholeFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Results of a batch, a JSON object a line, each on disk as soon as it stands. After a kill the
 * last line may be cut off: resuming takes it away, and the lines of failures, which are tried
 * again.
 */
final class ResultFile implements AutoCloseable {
  /** How every result begins. */
  private static final String START = "{\"id\":";

  private static final int MOST_BYTES = Integer.MAX_VALUE - 8; // of an array

  private final Path file;
  private GrowingFile results;
  private final Set<String> done = new HashSet<>();

  /**
   * Opens a result file.
   *
   * @param resume go on with a file that is there; otherwise one that holds results is refused
   */
  ResultFile(Path file, boolean resume) {
    this.file = real(file);
    this.results = new GrowingFile(file, MOST_BYTES);
    try {
      if (!resume && !(results.lines() + results.rest()).isEmpty()) {
        throw new BadFileException(
            file, "holds results already: add --resume to go on with it, or name another file");
      }
      readDone();
    } catch (RuntimeException e) {
      results.close();
      throw e;
    }
  }

  /** The file itself where its name is a link, which stays. */
  private static Path real(Path file) {
    try {
      return Files.isSymbolicLink(file) ? file.toRealPath() : file;
    } catch (IOException e) {
      return file; // opening it will say why
    }
  }

  private void readDone() {
    int number = 1;
    List<String> kept = new ArrayList<>();
    List<String> lines = results.lines().lines().toList();
    for (String line : lines) {
      if (line.isBlank()) {
        number++;
        continue;
      }
      JsonObject json =
          JsonObject.parse(
              Path.of(file + ", line " + number), line.getBytes(StandardCharsets.UTF_8));
      LineResult result = LineResult.of(json);
      if (!result.isOne()) {
        throw new BadFileException(file, "line " + number + " is no result: it has no id");
      }
      if (!result.isFailure()) {
        done.add(result.id().toString());
        kept.add(line);
      }
      number++;
    }
    // Only what a kill can leave of a result is taken away, never a file that is something else;
    // after a loss of power a file may have its length but not its last bytes, which read as NUL.
    String rest = results.rest();
    String begun = rest.replaceFirst("[\0\\s]+$", "");
    if (!begun.startsWith(START) && !START.startsWith(begun)) {
      throw new BadFileException(file, "line " + number + " is no result of halter batch");
    }
    if (!rest.isBlank()) {
      System.err.println(
          "halter: " + file + ", line " + number + " was cut off: it is taken away and done again");
    }
    if (kept.size() < lines.size()) {
      keep(kept);
    }
    results.keepLines();
  }

  /** Leaves nothing but these lines in the file, in one step: a kill must not cost results. */
  private void keep(List<String> lines) {
    WholeFile.write(
        file,
        out -> {
          for (String line : lines) {
            out.write(line + "\n");
          }
        });
    results.close();
    results = new GrowingFile(file, MOST_BYTES);
  }

  /** Whether a line's result stands already; a line without an id has none but an error. */
  boolean has(InputLine line) {
    return line.id() != null && done.contains(line.id().toString());
  }

  /** Appends a result. */
  void write(Object document) {
    results.append(Json.text(document) + "\n");
  }

  @Override
  public void close() {
    results.close();
  }
}
