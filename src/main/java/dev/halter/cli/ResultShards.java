package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.Shard;
import dev.halter.files.WholeFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Result files of shards of a batch as one: every line of the input has one result, no less, no
 * more.
 */
final class ResultShards {
  private final Path input;
  private final Map<String, Integer> places = new HashMap<>(); // of input lines, by their keys
  private final BitSet answered = new BitSet();
  private int failed;

  /** Of an input, whose lines are read for their ids. */
  ResultShards(Path input) {
    this.input = input;
    try (InputLine.Reader lines = InputLine.Reader.ofBatch(input, Shard.WHOLE)) {
      while (lines.hasNext()) {
        InputLine line = lines.next();
        places.put(key(line.id(), line.number()), places.size());
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A line whose id cannot be read is answered by its number. */
  private static String key(Object id, Object number) {
    return id == null ? "line " + number : "id " + id;
  }

  /** Lines of the input. */
  int lines() {
    return places.size();
  }

  /** Results that hold an error. */
  int failed() {
    return failed;
  }

  /**
   * Writes all results, as they are, one shard after the other.
   *
   * @throws BadFileException naming a result that is cut off, answers no line or one that has a
   *     result already
   * @throws IllegalArgumentException if a line has none
   */
  void join(List<Path> shards, Path out) {
    WholeFile.write(
        out,
        text -> {
          for (Path shard : shards) {
            ResultLines.each(
                shard,
                (place, line) -> {
                  take(place, line);
                  text.write(line + "\n");
                });
          }
          requireAll();
        });
  }

  private void take(Path place, String line) {
    LineResult result;
    try {
      result = LineResult.of(JsonObject.parse(place, line.getBytes(StandardCharsets.UTF_8)));
    } catch (BadFileException e) {
      throw new BadFileException(
          place, "is no result, or one that was cut off: finish its shard with --resume", e);
    }
    String key = key(result.id(), result.number());
    Integer index = places.get(key);
    if (index == null) {
      throw new BadFileException(place, "answers " + key + ", which " + input + " does not have");
    }
    if (answered.get(index)) {
      throw new BadFileException(place, "answers " + key + " once more: name each shard once");
    }
    answered.set(index);
    if (result.isFailure()) {
      failed++;
    }
  }

  private void requireAll() {
    int missing = places.size() - answered.cardinality();
    if (missing > 0) {
      int first = answered.nextClearBit(0);
      String key =
          places.entrySet().stream()
              .filter(place -> place.getValue() == first)
              .findFirst()
              .orElseThrow()
              .getKey();
      throw new IllegalArgumentException(
          "%,d of %,d lines of %s have no result, the first is %s: a shard is missing or not done"
              .formatted(missing, places.size(), input, key));
    }
  }
}
