package dev.halter.neurons;

import dev.halter.generation.Engine;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/** What clamping a neuron does to a token's probability as the next one, for several values. */
public final class DoseResponse {
  private DoseResponse() {}

  /**
   * One plan's effect.
   *
   * @param probability of the most probable of the concept's tokens as the first generated one
   * @param logit of that token
   * @param rank of that token, 0 = the greedy choice
   * @param topToken the greedy choice
   */
  public record Effect(double probability, float logit, int rank, int topToken) {}

  /** The effect of each plan on the same prompt, all in one batch. */
  public static List<Effect> of(
      Engine engine, int[] prompt, Set<Integer> tokens, List<SteeringPlan> plans) {
    return Logits.last(engine, prompt, plans).stream().map(row -> effect(row, tokens)).toList();
  }

  /** Plans that clamp one neuron to each value, at every token. */
  public static List<SteeringPlan> plans(Site site, int neuron, float[] values) {
    List<SteeringPlan> plans = new ArrayList<>();
    for (float value : values) {
      plans.add(SteeringPlan.of(Edit.clamp(site, neuron, value)));
    }
    return plans;
  }

  private static Effect effect(float[] logits, Set<Integer> tokens) {
    int best = -1;
    for (int token : tokens) {
      if (best < 0 || logits[token] > logits[best]) {
        best = token;
      }
    }
    int top = 0;
    int rank = 0;
    for (int i = 0; i < logits.length; i++) {
      if (logits[i] > logits[top]) {
        top = i;
      }
      if (logits[i] > logits[best] || logits[i] == logits[best] && i < best) {
        rank++;
      }
    }
    double logSum = Logits.logSumExp(logits, 0, logits.length);
    return new Effect(Math.exp(logits[best] - logSum), logits[best], rank, top);
  }
}
