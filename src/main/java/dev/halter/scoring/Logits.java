package dev.halter.scoring;

import dev.halter.generation.Engine;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/** Logits on the host, and what a row of them says of probabilities. */
public final class Logits {
  private static final Site SITE = new Site(Site.Kind.LOGITS, -1);

  private Logits() {}

  /** Logits [p, vocabulary] at each token of a text. */
  public static float[] of(Engine engine, int[] text, SteeringPlan plan) {
    return of(engine, text, 0, plan);
  }

  /**
   * Logits [vocabulary] at the last token of a prompt under each of several plans, in one batch.
   */
  public static List<float[]> last(Engine engine, int[] prompt, List<SteeringPlan> plans) {
    List<Request> requests = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      Capture capture = Capture.last(engine.model().config(), Set.of(SITE), prompt.length);
      requests.add(
          Request.of(prompt)
              .withId(Integer.toString(requests.size()))
              .withMaxTokens(0)
              .with(plan)
              .with(capture));
    }
    return engine.run(requests).stream()
        .map(result -> result.orThrow().request().capture().values().get(SITE))
        .toList();
  }

  /** Logits at each token of a text from {@code first} on. */
  private static float[] of(Engine engine, int[] text, int first, SteeringPlan plan) {
    Capture capture = new Capture(engine.model().config(), Set.of(SITE), text.length, first);
    engine.run(Request.of(text).withId("text").withMaxTokens(0).with(plan).with(capture)).orThrow();
    return capture.values().get(SITE);
  }

  /**
   * Natural logs of the probabilities that a model gives the tokens of an answer after its prompt.
   *
   * @param prompt at least one token
   * @param plan how the model is steered, the answer's tokens as if it had generated them: {@link
   *     SteeringPlan#along}
   */
  public static double[] logProbabilities(
      Engine engine, int[] prompt, int[] answer, SteeringPlan plan) {
    double[] logProbabilities = new double[answer.length];
    if (answer.length == 0) {
      return logProbabilities;
    }
    int[] text = Arrays.copyOf(prompt, prompt.length + answer.length);
    System.arraycopy(answer, 0, text, prompt.length, answer.length);
    float[] logits = of(engine, text, prompt.length - 1, plan.along(text, prompt.length));
    int vocabulary = engine.model().config().vocabularySize();
    for (int i = 0; i < answer.length; i++) {
      int row = i * vocabulary;
      logProbabilities[i] = logits[row + answer[i]] - logSumExp(logits, row, row + vocabulary);
    }
    return logProbabilities;
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

  /**
   * KL(p ‖ q) in nats between the distributions that two rows of logits stand for.
   *
   * @param count values of a row, from {@code atP} and {@code atQ} on
   */
  public static double divergence(float[] p, int atP, float[] q, int atQ, int count) {
    double zp = logSumExp(p, atP, atP + count);
    double zq = logSumExp(q, atQ, atQ + count);
    double sum = 0;
    for (int i = 0; i < count; i++) {
      double log = p[atP + i] - zp;
      sum += Math.exp(log) * (log - (q[atQ + i] - zq));
    }
    return sum;
  }
}
