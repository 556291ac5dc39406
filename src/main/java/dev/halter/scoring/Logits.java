package dev.halter.scoring;

import dev.halter.generation.Engine;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import java.util.Set;

/** Logits on the host, and what a row of them says of probabilities. */
public final class Logits {
  private static final Site SITE = new Site(Site.Kind.LOGITS, -1);

  private Logits() {}

  /** Logits [p, vocabulary] at each token of a text. */
  public static float[] of(Engine engine, int[] text, SteeringPlan plan) {
    Capture capture = new Capture(engine.model().config(), Set.of(SITE), text.length);
    engine.run(Request.of(text).withId("text").withMaxTokens(0).with(plan).with(capture)).orThrow();
    return capture.values().get(SITE);
  }

  /**
   * ln Σ exp of the values in a half-open range, in double; a token's log probability is its logit
   * less this.
   */
  public static double logSumExp(float[] values, int from, int to) {
    double max = Double.NEGATIVE_INFINITY;
    for (int i = from; i < to; i++) {
      max = Math.max(max, values[i]);
    }
    double sum = 0;
    for (int i = from; i < to; i++) {
      sum += Math.exp(values[i] - max);
    }
    return max + Math.log(sum);
  }
}
