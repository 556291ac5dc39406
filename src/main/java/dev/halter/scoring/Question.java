package dev.halter.scoring;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.generation.Engine;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;
import java.util.function.Predicate;

/**
 * A prompt whose greedy answer is right or wrong.
 *
 * @param kind which task it belongs to
 * @param prompt tokens
 * @param maxTokens longest answer
 * @param stopTokens ids that end the answer
 * @param isRight of the answer's tokens
 */
public record Question(
    String kind, int[] prompt, int maxTokens, Set<Integer> stopTokens, Predicate<int[]> isRight) {
  private static final int LONGEST_ANSWER = 32;

  /**
   * Reads questions, one JSON object a line: {@code {"kind", "messages"|"prompt", "match",
   * "answers"}}, where {@code match} says how an answer of up to 32 tokens, without the space
   * around it, has to meet one of the {@code answers}: exact, starts_with or contains.
   *
   * @throws BadFileException naming the line and the key
   */
  public static List<Question> read(Path file, LanguageModel model) {
    List<Question> questions = new ArrayList<>();
    for (JsonObject line : JsonObject.readLines(file)) {
      questions.add(of(line, model));
    }
    return questions;
  }

  /** A question as {@link #read} has it on a line. */
  public static Question of(JsonObject json, LanguageModel model) {
    json.only("kind", "messages", "prompt", "match", "answers");
    if (json.has("messages") == json.has("prompt")) {
      throw new BadFileException(json.file(), "must have exactly one of messages and prompt");
    }
    int[] prompt =
        json.has("prompt") ? model.encode(json.text("prompt")) : model.encode(Message.list(json));
    return of(json.text("kind"), prompt, json, model);
  }

  /** A question whose right answers {@code match} and {@code answers} of a JSON object tell. */
  public static Question of(String kind, int[] prompt, JsonObject json, LanguageModel model) {
    List<String> answers = json.texts("answers");
    Predicate<String> isRight =
        switch (json.text("match")) {
          case "exact" -> answers::contains;
          case "starts_with" -> text -> answers.stream().anyMatch(text::startsWith);
          case "contains" -> text -> answers.stream().anyMatch(text::contains);
          default -> throw json.wrong("match", "exact, starts_with or contains");
        };
    return new Question(
        kind,
        prompt,
        LONGEST_ANSWER,
        model.stopTokens(),
        tokens -> isRight.test(model.decode(tokens).strip()));
  }

  /** Asks every question without a plan; whether each answer is right. */
  public static boolean[] ask(Engine engine, List<Question> questions) {
    return ask(engine, questions, List.of(question -> SteeringPlan.NONE), count -> {})[0];
  }

  /**
   * Asks every question under every plan, all in one continuous batch.
   *
   * @param plans for each case, the plan of each question
   * @param done hears how many of the answers stand
   * @return whether each answer is right, by case and question
   */
  public static boolean[][] ask(
      Engine engine, List<Question> questions, List<? extends Plans> plans, IntConsumer done) {
    boolean[][] right = new boolean[plans.size()][questions.size()];
    int total = plans.size() * questions.size();
    Iterator<Request> requests =
        new Iterator<>() {
          private int next;

          @Override
          public boolean hasNext() {
            return next < total;
          }

          @Override
          public Request next() {
            int question = next % questions.size();
            SteeringPlan plan = plans.get(next / questions.size()).of(question);
            return questions.get(question).request(Integer.toString(next++), plan);
          }
        };
    int[] answered = {0};
    engine.run(
        requests,
        result -> {
          int id = Integer.parseInt(result.request().id());
          Question question = questions.get(id % questions.size());
          right[id / questions.size()][id % questions.size()] =
              question.isRight.test(result.orThrow().tokens());
          done.accept(++answered[0]);
        });
    return right;
  }

  /** The plan of each question. */
  @FunctionalInterface
  public interface Plans {
    SteeringPlan of(int question);
  }

  /** The question as a request without a plan. */
  public Request request() {
    return request(kind, SteeringPlan.NONE);
  }

  private Request request(String id, SteeringPlan plan) {
    return Request.of(prompt)
        .withId(id)
        .withMaxTokens(maxTokens)
        .withStopTokens(stopTokens)
        .with(plan);
  }
}
