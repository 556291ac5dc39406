package dev.halter.concepts;

import dev.halter.sparse.ConceptScores;
import dev.halter.weights.BadFileException;
import dev.halter.weights.Csv;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.function.Function;

/**
 * A table of scores that a model gave, {@code concept,score,task,model,prompt}: each row is on disk
 * as soon as it stands, and a run that was interrupted goes on with the table that it left.
 * ConceptScores reads it like any other.
 */
final class ScoreTable implements AutoCloseable {
  private static final String HEADER = "concept,score,task,model,prompt\n";
  private static final int MOST_BYTES = Csv.MOST_BYTES;

  private final Path file;
  private final String task;
  private final String model;
  private final Function<String, String> prompts;
  private final FileChannel channel;
  private final Map<String, Double> scores = new LinkedHashMap<>();

  /**
   * Opens a table, or begins one.
   *
   * @param task what the scores are for
   * @param model who gives them
   * @param prompts tells the prompt of a concept from others; null for concepts that are not asked
   * @throws BadFileException if the file is something else, or holds scores for another task, from
   *     another model or of another prompt
   */
  ScoreTable(Path file, String task, String model, Function<String, String> prompts) {
    this.file = file;
    this.task = task;
    this.model = model;
    this.prompts = prompts;
    try {
      this.channel =
          FileChannel.open(
              file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
      try {
        if (channel.tryLock() == null) {
          throw new OverlappingFileLockException();
        }
        goOn();
      } catch (OverlappingFileLockException e) {
        channel.close();
        throw new BadFileException(file, "another process writes to it", e);
      } catch (IOException | RuntimeException e) {
        channel.close();
        throw e;
      }
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be opened: " + e.getMessage(), e);
    }
  }

  private void goOn() throws IOException {
    if (channel.size() > MOST_BYTES) {
      throw new BadFileException(file, "is larger than " + MOST_BYTES + " bytes");
    }
    // Through the channel: closing a second one to the file would give up the lock.
    ByteBuffer bytes = ByteBuffer.allocate((int) channel.size());
    while (bytes.hasRemaining() && channel.read(bytes) >= 0) {}
    bytes.flip();
    // A kill may have cut the last row off; no field of ours holds a line break.
    int end = bytes.limit();
    while (end > 0 && bytes.get(end - 1) != '\n') {
      end--;
    }
    String rows = new String(bytes.array(), 0, end, StandardCharsets.UTF_8);
    String rest = new String(bytes.array(), end, bytes.limit() - end, StandardCharsets.UTF_8);
    if (!rows.startsWith(HEADER) && !(rows.isEmpty() && HEADER.startsWith(rest))) {
      throw new BadFileException(
          file, "is no table of scores from a model: name another one for what it answers");
    }
    if (!rows.isEmpty()) {
      Csv.parse(file, rows).forEach(this::goOn);
    }
    channel.truncate(end);
    channel.position(end);
    if (rows.isEmpty()) {
      append(HEADER);
    }
  }

  private void goOn(Map<String, String> row) {
    String concept = row.get("concept");
    OptionalDouble score = ConceptScores.score(row.get("score"));
    String asked = prompts.apply(concept);
    check(row, "task", task);
    check(row, "model", model);
    if (asked != null && !asked.equals(row.get("prompt"))) {
      throw new BadFileException(
          file,
          "was made with another prompt for \"%s\": name another table, or remove it"
              .formatted(concept));
    }
    if (score.isEmpty() || scores.put(concept, score.getAsDouble()) != null) {
      throw new BadFileException(
          file,
          "row %d, concept \"%s\", score \"%s\": must be a number from -1 to 1, and one a concept"
              .formatted(scores.size() + 1, concept, row.get("score")));
    }
  }

  private void check(Map<String, String> row, String column, String wanted) {
    if (!wanted.equals(row.get(column))) {
      throw new BadFileException(
          file,
          "was made for the %s \"%s\", this is \"%s\": name another table, or remove it"
              .formatted(column, row.get(column), wanted));
    }
  }

  /** The scores so far, those of concepts that are not asked included. */
  Map<String, Double> scores() {
    return scores;
  }

  /** Adds a concept's score. */
  void append(String concept, double score) {
    scores.put(concept, score);
    append(Csv.line(concept, Double.toString(score), task, model, prompts.apply(concept)));
  }

  private void append(String text) {
    ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    try {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be written: " + e.getMessage(), e);
    }
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be closed: " + e.getMessage(), e);
    }
  }
}
