package dev.halter.concepts;

import dev.halter.files.BadFileException;
import dev.halter.files.Csv;
import dev.halter.files.GrowingFile;
import dev.halter.files.TextFile;
import dev.halter.sparse.ConceptScores;
import java.nio.file.Path;
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

  private final Path file;
  private final String task;
  private final String model;
  private final Function<String, String> prompts;
  private final GrowingFile table;
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
    this.table = new GrowingFile(file, TextFile.MOST_BYTES);
    try {
      goOn();
    } catch (RuntimeException e) {
      table.close();
      throw e;
    }
  }

  private void goOn() {
    String rows = table.lines(); // no field of ours holds a line break
    if (!rows.startsWith(HEADER) && !(rows.isEmpty() && HEADER.startsWith(table.rest()))) {
      throw new BadFileException(
          file, "is no table of scores from a model: name another one for what it answers");
    }
    if (!rows.isEmpty()) {
      Csv.parse(file, rows).forEach(this::goOn);
    }
    table.keepLines();
    if (rows.isEmpty()) {
      table.append(HEADER);
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
    table.append(Csv.line(concept, Double.toString(score), task, model, prompts.apply(concept)));
  }

  @Override
  public void close() {
    table.close();
  }
}
