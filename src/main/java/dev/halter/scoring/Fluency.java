package dev.halter.scoring;

import dev.halter.generation.Engine;
import dev.halter.steering.SteeringPlan;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Whether an answer is still a text.
 *
 * @param perplexity of the answer after its prompt under the model without steering; NaN if it is
 *     empty
 * @param distinct share of its pairs of neighbouring tokens that are different pairs; 1 if it has
 *     none. A loop has few, and a low perplexity, since a model soon expects what was repeated.
 */
public record Fluency(double perplexity, double distinct) {
  private static final double MOST_SURPRISING = 4;
  private static final double LEAST_DISTINCT = 0.5;

  /** Measures an answer, as the engine gives it. */
  public static Fluency of(Engine engine, int[] prompt, int[] answer) {
    Set<Long> pairs = new HashSet<>();
    for (int i = 1; i < answer.length; i++) {
      pairs.add((long) answer[i - 1] << 32 | answer[i]);
    }
    return new Fluency(
        Perplexity.of(engine, List.of(prompt), List.of(answer), SteeringPlan.NONE),
        answer.length < 2 ? 1 : pairs.size() / (answer.length - 1.0));
  }

  /**
   * Whether this is about as much of a text as another answer to the same prompt: at most four
   * times its perplexity, and at least half its share of distinct pairs. Both limits are ours; an
   * empty answer is no text.
   */
  public boolean isCloseTo(Fluency other) {
    return perplexity <= MOST_SURPRISING * other.perplexity
        && distinct >= LEAST_DISTINCT * other.distinct;
  }
}
