package dev.halter.sparse;

import dev.halter.files.BadFileException;
import dev.halter.files.Csv;
import dev.halter.files.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * How much each concept has to do with a task, as {@code halter concepts partition} writes it:
 * {@code {"task", "concepts": [{"concept", "score"}]}}.
 *
 * @param task for people; may be empty
 * @param concepts highest score first, each name once
 */
public record ConceptScores(String task, List<Scored> concepts) {

  private static final Pattern NUMBER =
      Pattern.compile("[-+]?(\\d{1,300}(\\.\\d{0,300})?|\\.\\d{1,300})([eE][-+]?\\d{1,3})?");

  /** A concept's score, in [-1, 1]: 1 serves the task most. */
  public record Scored(String concept, double score) {}

  /**
   * Sorts by score; concepts with one score stay in the order given.
   *
   * @throws IllegalArgumentException for a name that comes twice or a score outside of [-1, 1]
   */
  public ConceptScores {
    Set<String> names = new HashSet<>();
    for (Scored scored : concepts) {
      if (!names.add(scored.concept)) {
        throw new IllegalArgumentException("concept \"" + scored.concept + "\" has two scores");
      }
      if (!(scored.score >= -1 && scored.score <= 1)) {
        throw new IllegalArgumentException(
            "concept \"%s\" has score %s, must be from -1 to 1"
                .formatted(scored.concept, scored.score));
      }
    }
    List<Scored> sorted = new ArrayList<>(concepts);
    sorted.sort(Comparator.comparingDouble(Scored::score).reversed());
    concepts = List.copyOf(sorted);
  }

  /**
   * Reads a file.
   *
   * @throws BadFileException if it is none
   */
  public static ConceptScores read(Path file) {
    JsonObject json = JsonObject.read(file);
    json.only("task", "concepts");
    List<Scored> concepts = new ArrayList<>();
    for (JsonObject item : json.objects("concepts")) {
      item.only("concept", "score");
      concepts.add(new Scored(item.text("concept"), item.number("score", -1, 1)));
    }
    try {
      return new ConceptScores(json.text("task", ""), concepts);
    } catch (IllegalArgumentException e) {
      throw new BadFileException(file, e.getMessage(), e);
    }
  }

  /**
   * Reads a table with the columns {@code concept} and {@code score}, in any order among others.
   *
   * @throws BadFileException naming the row that holds no score from -1 to 1, or the concept that
   *     comes twice
   */
  public static ConceptScores readCsv(Path file, String task) {
    List<Scored> concepts = new ArrayList<>();
    for (Map<String, String> row : Csv.read(file)) {
      String concept = row.get("concept");
      String score = row.get("score");
      if (concept == null || score == null) {
        throw new BadFileException(
            file, "has no column \"concept\" or no column \"score\": it has " + row.keySet());
      }
      OptionalDouble number = score(score);
      if (concept.isBlank() || number.isEmpty()) {
        throw new BadFileException(
            file,
            "row %d, concept \"%s\", score \"%s\": must be a name and a number from -1 to 1"
                .formatted(concepts.size() + 1, concept, score));
      }
      concepts.add(new Scored(concept, number.getAsDouble()));
    }
    if (concepts.isEmpty()) {
      throw new BadFileException(file, "has no concepts");
    }
    try {
      return new ConceptScores(task, concepts);
    } catch (IllegalArgumentException e) {
      throw new BadFileException(file, e.getMessage(), e);
    }
  }

  /** The score that a text is, blanks around it left aside; empty if it is none in [-1, 1]. */
  public static OptionalDouble score(String text) {
    if (NUMBER.matcher(text.strip()).matches()) {
      double score = Double.parseDouble(text.strip());
      return score >= -1 && score <= 1 ? OptionalDouble.of(score) : OptionalDouble.empty();
    }
    return OptionalDouble.empty();
  }

  /** Names of the {@code count} highest scores. */
  public List<String> top(int count) {
    return concepts.stream().limit(count).map(Scored::concept).toList();
  }
}
