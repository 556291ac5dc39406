package dev.halter.neurons;

import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * How far a model's next-token distributions are from those of another over the same texts:
 * KL(before ‖ after) in nats, a value for every token.
 *
 * @param tokens compared
 */
public record Divergence(int tokens, double mean, double median, double max) {
  /** Logits of at most so many values are kept, 256 MB. */
  private static final long MOST = 64L << 20;

  /** As many of the texts, in order, as can be compared at once. */
  public static List<int[]> comparable(LanguageModel model, List<int[]> texts) {
    List<int[]> some = new ArrayList<>();
    long values = 0;
    for (int[] text : texts) {
      values += (long) text.length * model.config().vocabularySize();
      if (values > MOST) {
        break;
      }
      some.add(text);
    }
    return some;
  }

  /** Logits [p, vocabulary] of each text. */
  public static List<float[]> logits(LanguageModel model, List<int[]> texts) {
    return texts.stream().map(text -> Logits.of(model.engine(), text, SteeringPlan.NONE)).toList();
  }

  /** The divergence between what {@link #logits} gave for two models on the same texts. */
  public static Divergence of(List<float[]> before, List<float[]> after, int vocabulary) {
    List<Double> values = new ArrayList<>();
    for (int text = 0; text < before.size(); text++) {
      for (int from = 0; from < before.get(text).length; from += vocabulary) {
        values.add(Logits.divergence(before.get(text), from, after.get(text), from, vocabulary));
      }
    }
    double[] sorted = values.stream().mapToDouble(x -> x).sorted().toArray();
    int n = sorted.length;
    return new Divergence(
        n,
        Arrays.stream(sorted).average().orElse(0),
        n == 0 ? 0 : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2,
        n == 0 ? 0 : sorted[n - 1]);
  }
}
