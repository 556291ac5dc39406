package dev.halter.scoring;

import dev.halter.generation.Engine;
import dev.halter.steering.SteeringPlan;
import java.util.Arrays;
import java.util.List;

/** How surprised a model is by texts: the exponential of the mean negative log probability. */
public final class Perplexity {
  private Perplexity() {}

  /**
   * Perplexity of all tokens of the texts but their first, after which a plan takes them for
   * generated ones; NaN if there are none.
   */
  public static double of(Engine engine, List<int[]> texts, SteeringPlan plan) {
    return of(
        engine,
        texts.stream().map(text -> Arrays.copyOf(text, 1)).toList(),
        texts.stream().map(text -> Arrays.copyOfRange(text, 1, text.length)).toList(),
        plan);
  }

  /**
   * Perplexity of answers, each after its prompt; NaN if all are empty. Answers as the engine gives
   * them have no stop token: how sure a model is of the end does not count.
   *
   * @param prompts tokens, at least one each
   * @param answers as many as prompts
   */
  public static double of(
      Engine engine, List<int[]> prompts, List<int[]> answers, SteeringPlan plan) {
    double sum = 0;
    long count = 0;
    for (int i = 0; i < prompts.size(); i++) {
      for (double each : Logits.logProbabilities(engine, prompts.get(i), answers.get(i), plan)) {
        sum -= each;
        count++;
      }
    }
    return Math.exp(sum / count);
  }
}
