package dev.halter.sparse;

import dev.halter.weights.BadFileException;
import dev.halter.weights.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * How much each concept has to do with a task, as {@code halter concepts partition} writes it:
 * {@code {"task", "concepts": [{"concept", "score"}]}}.
 *
 * @param task for people; may be empty
 * @param concepts highest score first, each name once
 */
public record ConceptScores(String task, List<Scored> concepts) {

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

  /** Names of the {@code count} highest scores. */
  public List<String> top(int count) {
    return concepts.stream().limit(count).map(Scored::concept).toList();
  }
}
