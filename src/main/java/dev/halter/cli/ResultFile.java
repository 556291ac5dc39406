package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Results of a batch, a line each. Going on with them takes away the lines of failures, which are
 * tried again.
 */
final class ResultFile implements AutoCloseable {
  private final ResumableFile results;
  private final Set<String> done = new HashSet<>();

  /**
   * Opens a result file.
   *
   * @param resume go on with a file that is there; otherwise one that holds results is refused
   */
  ResultFile(Path file, boolean resume) {
    this.results = new ResumableFile(file, "halter batch", "{\"id\":", resume);
    try {
      readDone(file);
    } catch (RuntimeException e) {
      results.close();
      throw e;
    }
  }

  private void readDone(Path file) {
    int number = 0;
    List<String> kept = new ArrayList<>();
    for (String line : results.lines()) {
      number++;
      if (line.isBlank()) {
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
    }
    results.keep(kept);
  }

  /** Whether a line's result stands already; a line without an id has none but an error. */
  boolean has(InputLine line) {
    return line.id() != null && done.contains(line.id().toString());
  }

  /** Appends a result. */
  void write(Object document) {
    results.append(document);
  }

  @Override
  public void close() {
    results.close();
  }
}
