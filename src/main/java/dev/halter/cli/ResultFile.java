package dev.halter.cli;

import dev.halter.output.GrowingFile;
import dev.halter.weights.BadFileException;
import dev.halter.weights.JsonObject;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;

/**
 * Results of a batch, a JSON object a line, each on disk as soon as it stands. After a kill the
 * last line may be cut off: resuming takes it away and keeps the rest.
 */
final class ResultFile implements AutoCloseable {
  /** How every result begins. */
  private static final String START = "{\"id\":";

  private static final int MOST_BYTES = Integer.MAX_VALUE - 8; // of an array

  private final Path file;
  private final GrowingFile results;
  private final Set<String> done = new HashSet<>();

  /**
   * Opens a result file.
   *
   * @param resume go on with a file that is there; otherwise one that holds results is refused
   */
  ResultFile(Path file, boolean resume) {
    this.file = file;
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

  private void readDone() {
    int number = 1;
    for (String line : results.lines().lines().toList()) {
      if (line.isBlank()) {
        number++;
        continue;
      }
      JsonObject json =
          JsonObject.parse(
              Path.of(file + ", line " + number), line.getBytes(StandardCharsets.UTF_8));
      if (json.has("id")) {
        done.add(json.value("id").toString());
      } else if (json.has("line")) {
        done.add(lineKey(json.integer("line", 1, Integer.MAX_VALUE)));
      } else {
        throw new BadFileException(file, "line " + number + " is no result: it has no id");
      }
      number++;
    }
    // Only what a kill can leave of a result is taken away, never a file that is something else.
    // After
    // a loss of power the file may have its length but not its last bytes: they read as NUL.
    String rest = results.rest();
    String begun = rest.replaceFirst("[\0\\s]+$", "");
    if (!begun.startsWith(START) && !START.startsWith(begun)) {
      throw new BadFileException(file, "line " + number + " is no result of halter batch");
    }
    if (!rest.isBlank()) {
      System.err.println(
          "halter: " + file + ", line " + number + " was cut off: it is taken away and done again");
    }
    results.keepLines();
  }

  private static String lineKey(int number) {
    return "\0line " + number; // no id can be this
  }

  /** Whether a line's result stands already. */
  boolean has(InputLine line) {
    return done.contains(line.id() == null ? lineKey(line.number()) : line.id().toString());
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
