package dev.halter.concepts;

import dev.halter.files.BadFileException;
import dev.halter.files.TextFile;
import dev.halter.sparse.ConceptScores;
import dev.halter.sparse.ConceptScores.Scored;
import dev.halter.text.Chat;
import dev.halter.text.Message;
import dev.halter.weights.Fingerprint;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.function.IntConsumer;

/**
 * Has a language model score how much each concept has to do with a task, from -1 to 1, one concept
 * a question.
 *
 * <p>Source: PaCE (arXiv 2406.04331), section 3.2: a model rates each concept, of which it sees ten
 * texts; the prompt here is our own. What happens to an answer that is no score is our decision.
 */
public final class Partition {
  /** Texts of a concept that the model sees. */
  private static final int TEXTS = 10;

  /** How often a concept is asked for before it goes without a score. */
  private static final int ATTEMPTS = 3;

  /** Refusals before the first answer after which the request itself must be wrong. */
  private static final int MOST_REFUSED = 8;

  private static final int LONGEST_TASK = 500;

  private static final String PROMPT =
      """
      You rate how much a concept has to do with a task of a language model. The score is a number \
      from -1 to 1, with two decimals:
      1 means that the concept is what the task is about, or what the task has to find or prevent;
      0 means that the concept has nothing to do with it;
      -1 means that the concept is the opposite of that.
      Answer with the score alone: one number, nothing else.

      Task: find insults and contempt
      Concept: mockery
      Score: 0.92

      Task: find insults and contempt
      Concept: courtesy
      Score: -0.85

      Task: find insults and contempt
      Concept: granite
      Score: 0.00

      """;

  private static final String AGAIN =
      "That is not one number from -1 to 1. Answer with the score alone, such as 0.25.";

  /**
   * A concept to be scored.
   *
   * @param texts in which it occurs; may be none
   */
  public record Concept(String name, List<String> texts) {
    public Concept {
      if (name.isBlank() || !isLine(name)) {
        throw new IllegalArgumentException("\"" + name + "\" is no name of a concept: one line is");
      }
      texts = List.copyOf(texts);
    }
  }

  /**
   * What became of the concepts.
   *
   * @param scores of those that have one, equal scores in the order of the concepts
   * @param before how many of these stood in the table already
   * @param unscored the others and why, in the order of the concepts
   */
  public record Outcome(ConceptScores scores, int before, Map<String, String> unscored) {}

  private final String task;
  private final Chat model;
  private final Map<String, Concept> concepts = new LinkedHashMap<>();

  /**
   * A partition to be made.
   *
   * @param concepts those of one name are one
   * @param task what the scores are for, in words for the model
   */
  public Partition(List<Concept> concepts, String task, Chat model) {
    if (task.isBlank() || task.length() > LONGEST_TASK || !isLine(task)) {
      throw new IllegalArgumentException(
          "the task must be one line of up to " + LONGEST_TASK + " characters");
    }
    this.task = task;
    this.model = model;
    concepts.forEach(concept -> this.concepts.putIfAbsent(concept.name, concept));
  }

  private static boolean isLine(String text) {
    return text.chars().noneMatch(Character::isISOControl);
  }

  /**
   * Reads concepts: a name a line, a list of names as JSON or Python write it (PaCE's {@code
   * concept_index.txt}), or {@link Stimuli}, whose texts the model then sees.
   *
   * @throws BadFileException if the path is none of these
   */
  public static List<Concept> read(Path path) {
    String text = Files.isDirectory(path) ? "{" : TextFile.readUnmarked(path).strip();
    List<Concept> concepts = new ArrayList<>();
    if (text.startsWith("{")) {
      Stimuli stimuli = Stimuli.read(path);
      for (int i = 0; i < stimuli.concepts().size(); i++) {
        List<String> texts = stimuli.texts(i);
        concepts.add(
            new Concept(
                stimuli.concepts().get(i), texts.subList(0, Math.min(TEXTS, texts.size()))));
      }
      return concepts;
    }
    List<String> names =
        text.startsWith("[")
            ? PythonList.read(path, text)
            : text.lines().map(String::strip).filter(line -> !line.isEmpty()).toList();
    if (names.isEmpty()) {
      throw new BadFileException(path, "names no concept");
    }
    for (String name : new LinkedHashSet<>(names)) {
      concepts.add(new Concept(name, List.of()));
    }
    return concepts;
  }

  /** A concept in question and what was said about it so far. */
  private record Question(Concept concept, List<Message> conversation) {}

  /**
   * Asks for the scores that a table lacks, and adds each as soon as it is known.
   *
   * @param file the table; it is made if it is not there, and gone on with if it is of the same
   *     task, model and prompts
   * @param progress hears how many scores there are
   * @throws RuntimeException if the model cannot go on; the table keeps what was answered
   */
  public Outcome score(Path file, IntConsumer progress) {
    try (ScoreTable table = new ScoreTable(file, task, model.name(), this::key)) {
      List<Question> open = new ArrayList<>();
      for (Concept concept : concepts.values()) {
        if (!table.scores().containsKey(concept.name)) {
          open.add(new Question(concept, List.of(new Message("user", prompt(concept)))));
        }
      }
      int before = concepts.size() - open.size();
      int[] count = {before}; // the next that is heard of
      Runnable scored = () -> progress.accept(count[0]++);
      scored.run();
      Map<String, String> problems = new LinkedHashMap<>();
      for (int attempt = 1; attempt <= ATTEMPTS && !open.isEmpty(); attempt++) {
        open = ask(open, table, problems, scored);
      }
      return outcome(table, before, problems);
    }
  }

  /** Asks once; returns the questions that were answered, but not with a score. */
  private List<Question> ask(
      List<Question> questions, ScoreTable table, Map<String, String> problems, Runnable scored) {
    List<Question> again = new ArrayList<>();
    model.ask(
        questions.stream().map(Question::conversation).toList(),
        answer -> {
          Question question = questions.get(answer.conversation());
          String name = question.concept.name;
          if (answer.text() == null) {
            problems.put(name, answer.refusal());
            if (problems.size() == MOST_REFUSED && again.isEmpty() && table.scores().isEmpty()) {
              throw new IllegalArgumentException(
                  "no concept is answered for, \"" + name + "\": " + answer.refusal());
            }
            return;
          }
          OptionalDouble score = ConceptScores.score(said(answer.text()));
          if (score.isPresent()) {
            table.append(name, score.getAsDouble());
            scored.run();
          } else {
            problems.put(name, "answered \"" + brief(answer.text()) + "\"");
            again.add(new Question(question.concept, corrected(question, answer.text())));
          }
        });
    return again;
  }

  private Outcome outcome(ScoreTable table, int before, Map<String, String> problems) {
    List<Scored> scored = new ArrayList<>();
    Map<String, String> unscored = new LinkedHashMap<>();
    for (String name : concepts.keySet()) {
      Double score = table.scores().get(name);
      if (score != null) {
        scored.add(new Scored(name, score));
      } else {
        unscored.put(name, problems.get(name));
      }
    }
    return new Outcome(new ConceptScores(task, scored), before, unscored);
  }

  /** An answer without the thoughts that some models put before it. */
  private static String said(String answer) {
    return answer.replaceFirst("(?s)^\\s*<think>.*</think>", "").strip();
  }

  private static List<Message> corrected(Question question, String answer) {
    List<Message> conversation = new ArrayList<>(question.conversation);
    conversation.add(new Message("assistant", brief(answer)));
    conversation.add(new Message("user", AGAIN));
    return conversation;
  }

  private static String brief(String answer) {
    String line = answer.strip().replaceAll("\\s+", " ");
    return line.isEmpty() ? "nothing" : line.length() > 80 ? line.substring(0, 80) + "…" : line;
  }

  private String prompt(Concept concept) {
    StringBuilder prompt = new StringBuilder(PROMPT);
    prompt.append("Task: ").append(task).append("\nConcept: ").append(concept.name).append('\n');
    for (String text : concept.texts) {
      prompt.append("It occurs in: ").append(text.strip().replaceAll("\\s+", " ")).append('\n');
    }
    return prompt.append("Score:").toString();
  }

  /** Tells prompts apart; null for a concept that is not asked. */
  private String key(String name) {
    Concept concept = concepts.get(name);
    if (concept == null) {
      return null;
    }
    byte[] hash = Fingerprint.sha256().digest(prompt(concept).getBytes(StandardCharsets.UTF_8));
    return HexFormat.of().formatHex(hash, 0, 6);
  }
}
