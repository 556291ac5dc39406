package dev.halter.scoring;

import dev.halter.generation.Engine;
import dev.halter.steering.SteeringPlan;
import java.util.Arrays;
import java.util.List;

/** How surprised a model is by texts: the exponential of the mean negative log probability. */
public final class Perplexity {
  private Perplexity() {}

  /** Perplexity of all tokens of the texts but their first; NaN if there are none. */
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
    int vocabulary = engine.model().config().vocabularySize();
    double sum = 0;
    long count = 0;
    for (int i = 0; i < prompts.size(); i++) {
      int[] answer = answers.get(i);
      int begin = prompts.get(i).length;
      int[] text = Arrays.copyOf(prompts.get(i), begin + answer.length);
      System.arraycopy(answer, 0, text, begin, answer.length);
      float[] logits = Logits.of(engine, text, plan);
      for (int j = begin; j < text.length; j++) {
        int row = (j - 1) * vocabulary;
        sum += Logits.logSumExp(logits, row, row + vocabulary) - logits[row + text[j]];
        count++;
      }
    }
    return Math.exp(sum / count);
  }
}
