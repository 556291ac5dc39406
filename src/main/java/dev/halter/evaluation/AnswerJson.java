package dev.halter.evaluation;

import dev.halter.evaluation.Judge.Ratings;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * A reading as JSON, from which it can be made again to the last bit. What does not exist is null,
 * as NaN is in JSON.
 */
public final class AnswerJson {
  /** What tells an evaluation's answers apart. */
  private static final List<String> KEY =
      List.of("task", "id", "arm", "plan", "prompting", "dose", "draw");

  private AnswerJson() {}

  /**
   * An answer.
   *
   * @param reported whether figures are of it, and no dose was chosen by it
   */
  public static Map<String, Object> of(Reading reading, boolean reported) {
    Map<String, Object> answer = named(reading);
    answer.put("reported", reported);
    answer.put("text", reading.text());
    answer.put("score", reading.score());
    answer.put("choice_logprobs", list(reading.logProbabilities()));
    answer.put("ratings", list(reading.ratings()));
    answer.put("surprise", reading.surprise);
    answer.put("tokens", reading.surprised);
    answer.put("perplexity", reading.perplexity());
    answer.put("entropy", reading.entropy());
    answer.put("distance", reading.distance());
    answer.put("same", reading.isSame());
    return answer;
  }

  /** An arm, in answers and rows. */
  public static Map<String, Object> of(Arm arm) {
    return Json.object(
        "arm", arm.kind().name().toLowerCase(Locale.ROOT),
        "plan", arm.kind() == Arm.Kind.PROMPTING ? null : arm.plan(),
        "prompting", arm.prompting(),
        "dose", arm.dose());
  }

  private static Map<String, Object> named(Reading reading) {
    Map<String, Object> named =
        Json.object("task", reading.task().name(), "id", reading.item().id());
    named.putAll(of(reading.arm()));
    named.put("draw", reading.draw());
    return named;
  }

  private static List<Double> list(double... values) {
    return values == null ? null : Arrays.stream(values).boxed().toList();
  }

  /** Which of an evaluation's answers this is. */
  public static Object key(Reading reading) {
    Map<String, Object> named = named(reading);
    named.replaceAll((key, value) -> Double.valueOf(Double.NaN).equals(value) ? null : value);
    return key(named);
  }

  /** As {@link #key(Reading)}, of what {@link #of(Reading, boolean)} wrote. */
  public static Object key(JsonObject answer) {
    return key(answer.values());
  }

  private static Object key(Map<String, Object> named) {
    List<Object> key = new ArrayList<>(); // of which some are null
    KEY.forEach(name -> key.add(named.get(name)));
    return key;
  }

  /** Whether an answer is all that there can be; one that its judge gave no rating is not. */
  public static boolean isFinished(Reading reading, JsonObject answer) {
    return !(reading.task().score() instanceof Score.Judged) || answer.has("score");
  }

  /**
   * Fills in a reading.
   *
   * @throws dev.halter.files.BadFileException if this is nothing that was written of one
   */
  public static void read(JsonObject answer, Reading reading) {
    reading.text = answer.text("text", null);
    reading.score = number("score", answer);
    reading.logProbabilities = numbers("choice_logprobs", answer);
    double[] ratings = numbers("ratings", answer);
    if (ratings != null) {
      if (ratings.length != 3) {
        throw answer.wrong("ratings", "a list of three");
      }
      reading.ratings = new Ratings(ratings[0], ratings[1], ratings[2]);
    }
    reading.surprise = number("surprise", answer);
    reading.surprised = answer.integer("tokens", 0, Integer.MAX_VALUE);
    reading.distance = number("distance", answer);
    reading.same = answer.flag("same", false);
  }

  private static double number(String key, JsonObject answer) {
    return answer.number(key, -Double.MAX_VALUE, Double.MAX_VALUE, Double.NaN);
  }

  private static double[] numbers(String key, JsonObject answer) {
    if (!answer.has(key)) {
      return null;
    }
    if (!(answer.value(key) instanceof List<?> list
        && list.stream().allMatch(each -> each == null || each instanceof Number))) {
      throw answer.wrong(key, "a list of numbers");
    }
    return list.stream()
        .mapToDouble(each -> each == null ? Double.NaN : ((Number) each).doubleValue())
        .toArray();
  }
}
