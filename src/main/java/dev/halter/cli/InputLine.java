package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.Reason;
import dev.halter.files.Shard;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Objects;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Stream;

/**
 * One line of a JSONL input: {@code {"id", "prompt"|"messages"|"tokens", …}}.
 *
 * @param number line number from 1
 * @param id as in the line, a string or an integer; null where it could not be read
 * @param json the line, or null
 * @param error what is wrong with the line, or null
 */
public record InputLine(int number, Object id, JsonObject json, String error) {

  /** The prompt's tokens. */
  int[] prompt(LanguageModel model) {
    return RequestJson.prompt(json, model);
  }

  /** A message that names the line, whatever is known of it. */
  String failure(String problem) {
    // Parsers name the "file" that they read: the line's place.
    String place = "line " + number;
    String what =
        problem.startsWith(place + ": ") ? problem.substring(place.length() + 2) : problem;
    return id == null ? place + ": " + what : place + ", id " + Json.text(id) + ": " + what;
  }

  /** What the lines of a file look like. */
  enum Form {
    /** {@code {"id", "prompt"|"messages"|"tokens", …}}. */
    OWN("id"),
    /** {@code {"custom_id", "method", "url", "body"}}, as for OpenAI's batches. */
    OPENAI("custom_id");

    private final String id;

    Form(String id) {
      this.id = id;
    }

    /** The form of the first line that has one, whatever is wrong with those before it. */
    static Form of(Stream<String> lines) {
      return lines.map(Form::of).filter(Objects::nonNull).findFirst().orElse(OWN);
    }

    /** The form of a line; null where it has neither's id. */
    private static Form of(String line) {
      try {
        JsonObject json =
            JsonObject.parse(Path.of("line"), line.getBytes(StandardCharsets.ISO_8859_1));
        return json.has(OWN.id) ? OWN : json.has(OPENAI.id) ? OPENAI : null;
      } catch (BadFileException e) {
        return null;
      }
    }
  }

  /**
   * Reads a file line by line; blank lines are skipped, bad ones come with their error. Bytes are
   * kept as they are until a line is parsed, so that one that is not UTF-8 fails alone. A shard's
   * lines are those that a reader of all has there, bad ones included.
   */
  static final class Reader implements Iterator<InputLine>, AutoCloseable {
    private final Path file;
    private final BufferedReader lines;
    private final Form form;
    private final String[] keys;
    private final Set<String> ids = new HashSet<>();
    private final Shard shard;
    private final long end; // of its lines, among those that are not blank
    private int number;
    private long place; // likewise
    private String line;

    /** Opens a file whose objects have these keys beside id, prompt, messages and tokens. */
    Reader(Path file, String... more) {
      this(file, Shard.WHOLE, more);
    }

    /** As above, for a part of the lines; unless it is all of them they are counted first. */
    Reader(Path file, Shard shard, String... more) {
      this(file, shard, lines -> Form.OWN, more);
    }

    /**
     * As above, of a file that may have OpenAI's lines, as its first line with an id says; of what
     * can be read only once, such as a pipe, its first line.
     */
    static Reader ofBatch(Path file, Shard shard, String... more) {
      return new Reader(file, shard, Form::of, more);
    }

    private Reader(Path file, Shard shard, Function<Stream<String>, Form> forms, String... more) {
      this.file = file;
      this.shard = shard;
      long total = shard.isWhole() ? Long.MAX_VALUE : count(file);
      if (total == 0 && Files.exists(file)) {
        throw new WrongUseException(
            "--shard takes a part of the lines of " + file + ", which has none to count");
      }
      this.end = shard.end(total);
      this.lines = open(file);
      advance();
      this.form = form(forms);
      this.keys =
          form == Form.OPENAI
              ? new String[] {"custom_id", "method", "url", "body"}
              : Stream.concat(Stream.of("id", "prompt", "messages", "tokens"), Stream.of(more))
                  .toArray(String[]::new);
      while (place < shard.begin(total)) {
        parse(); // an id may be an earlier line's
        place++;
        advance();
      }
    }

    private Form form(Function<Stream<String>, Form> forms) {
      if (!Files.isRegularFile(file)) {
        return forms.apply(Stream.ofNullable(line));
      }
      try (BufferedReader all = open(file)) {
        return forms.apply(all.lines());
      } catch (UncheckedIOException e) {
        throw unreadable(file, e.getCause());
      } catch (IOException e) {
        throw unreadable(file, e);
      }
    }

    /** What the lines look like. */
    Form form() {
      return form;
    }

    /** How many lines it reads; 0 if that is not known before. */
    long size() {
      return shard.size(count(file));
    }

    /** Lines that are not blank; 0 where what is read can be read only once, such as a pipe. */
    private static long count(Path file) {
      if (!Files.isRegularFile(file)) {
        return 0;
      }
      try (BufferedReader lines = open(file)) {
        return lines.lines().filter(line -> !line.isBlank()).count();
      } catch (UncheckedIOException e) {
        throw unreadable(file, e.getCause());
      } catch (IOException e) {
        throw unreadable(file, e);
      }
    }

    private static BufferedReader open(Path file) {
      try {
        return Files.newBufferedReader(file, StandardCharsets.ISO_8859_1);
      } catch (NoSuchFileException e) {
        throw new BadFileException(file, "no such file", e);
      } catch (IOException e) {
        throw unreadable(file, e);
      }
    }

    private static BadFileException unreadable(Path file, IOException e) {
      return new BadFileException(file, "cannot be read: " + Reason.of(e), e);
    }

    private void advance() {
      try {
        do {
          line = lines.readLine();
          number++;
        } while (line != null && line.isBlank());
      } catch (IOException e) {
        throw unreadable(file, e);
      }
    }

    @Override
    public boolean hasNext() {
      return line != null && place < end;
    }

    @Override
    public InputLine next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      InputLine parsed = parse();
      place++;
      advance();
      return parsed;
    }

    private InputLine parse() {
      Object id = null;
      try {
        JsonObject json =
            JsonObject.parse(Path.of("line " + number), line.getBytes(StandardCharsets.ISO_8859_1));
        Object given = json.value(form.id);
        requireForm(json);
        boolean isId =
            given instanceof String
                || form == Form.OWN && (given instanceof Integer || given instanceof Long);
        if (!isId) {
          throw json.wrong(form.id, form == Form.OWN ? "a string or an integer" : "a string");
        }
        // 1 and "1" are one id: both name the same tensors and requests.
        if (!ids.add(given.toString())) {
          // Reported by its line alone, so that the id still has one result.
          throw new IllegalArgumentException(
              "an earlier line has the same id, " + Json.text(given));
        }
        id = given;
        json.only(keys);
        return new InputLine(number, id, json, null);
      } catch (IllegalArgumentException e) {
        return new InputLine(number, id, null, e.getMessage());
      }
    }

    /** Results of one file have one form, so its lines have. */
    private void requireForm(JsonObject json) {
      Form other = form == Form.OWN ? Form.OPENAI : Form.OWN;
      if (!json.has(form.id) && json.has(other.id)) {
        throw new BadFileException(
            json.file(),
            form == Form.OWN
                ? "is one of OpenAI's lines, which halter batch takes in a file of their own"
                : "is none of OpenAI's lines: put Halter's own into another file");
      }
    }

    @Override
    public void close() throws IOException {
      lines.close();
    }
  }

  /**
   * The prompts of all lines of a file.
   *
   * @throws IllegalArgumentException naming the first line that is none: what is computed of them
   *     together would be of others than were asked for
   */
  public static List<int[]> prompts(Path file, LanguageModel model) {
    List<int[]> prompts = new ArrayList<>();
    for (InputLine line : all(file)) {
      try {
        if (line.error != null) {
          throw new IllegalArgumentException(line.error);
        }
        int[] prompt = line.prompt(model);
        model.engine().check(Request.of(prompt).withId(line.id.toString()).withMaxTokens(0));
        prompts.add(prompt);
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException(file + ", " + line.failure(e.getMessage()), e);
      }
    }
    return prompts;
  }

  /** All lines of a file. */
  static List<InputLine> all(Path file, String... more) {
    return all(file, Shard.WHOLE, more);
  }

  /** All lines of a part of a file. */
  static List<InputLine> all(Path file, Shard shard, String... more) {
    try (Reader reader = new Reader(file, shard, more)) {
      List<InputLine> lines = new ArrayList<>();
      reader.forEachRemaining(lines::add);
      return lines;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
