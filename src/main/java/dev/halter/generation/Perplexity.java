package dev.halter.generation;

import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import java.util.List;
import java.util.Set;

/** How surprised a model is by texts: the exponential of the mean negative log probability. */
public final class Perplexity {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  private Perplexity() {}

  /** Perplexity of all tokens of the texts but their first; NaN if there are none. */
  public static double of(Engine engine, List<int[]> texts, SteeringPlan plan) {
    int vocabulary = engine.model().config().vocabularySize();
    double sum = 0;
    long count = 0;
    for (int[] text : texts) {
      Capture capture = new Capture(engine.model().config(), Set.of(LOGITS), text.length);
      engine.run(Request.greedy("text", text, 0, Set.of()).with(plan).with(capture)).orThrow();
      float[] logits = capture.values().get(LOGITS);
      for (int i = 1; i < text.length; i++) {
        int row = (i - 1) * vocabulary;
        sum += Logits.logSumExp(logits, row, row + vocabulary) - logits[row + text[i]];
        count++;
      }
    }
    return Math.exp(sum / count);
  }
}
