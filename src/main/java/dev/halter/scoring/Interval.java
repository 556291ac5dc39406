package dev.halter.scoring;

import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.DoubleUnaryOperator;
import org.apache.commons.math3.distribution.BinomialDistribution;

/**
 * A figure of a sample, and between which values it lies in 95 of 100 samples that are drawn from
 * this one with replacement: the percentile bootstrap (Efron 1979).
 *
 * @param value of the sample as it is; NaN of an empty one
 * @param low 2.5 % of the resamples lie below it
 * @param high 2.5 % lie above it
 * @param n items of the sample
 */
public record Interval(double value, double low, double high, int n) {
  private static final int RESAMPLES = 2000;

  /** Of nothing. */
  public static final Interval NONE = new Interval(Double.NaN, Double.NaN, Double.NaN, 0);

  /** Of the mean of some values; those that are NaN are left out. */
  public static Interval ofMean(double[] values, long seed) {
    double[] present = Arrays.stream(values).filter(x -> !Double.isNaN(x)).toArray();
    double[] ones = new double[present.length];
    Arrays.fill(ones, 1);
    return ofRatio(present, ones, x -> x, seed);
  }

  /**
   * Of f(Σ sums / Σ counts) over items: with counts 1 a mean, with surprises of texts and their
   * tokens a perplexity (f = exp).
   *
   * @param sums of each item
   * @param counts of each item, as many
   */
  public static Interval ofRatio(double[] sums, double[] counts, DoubleUnaryOperator f, long seed) {
    int n = sums.length;
    if (n == 0) {
      return NONE;
    }
    SplittableRandom random = new SplittableRandom(seed);
    double[] resampled = new double[RESAMPLES];
    for (int i = 0; i < RESAMPLES; i++) {
      double sum = 0;
      double count = 0;
      for (int j = 0; j < n; j++) {
        int drawn = random.nextInt(n);
        sum += sums[drawn];
        count += counts[drawn];
      }
      resampled[i] = f.applyAsDouble(sum / count);
    }
    Arrays.sort(resampled);
    double value = f.applyAsDouble(Arrays.stream(sums).sum() / Arrays.stream(counts).sum());
    return new Interval(value, quantile(resampled, 0.025), quantile(resampled, 0.975), n);
  }

  /**
   * Of a share of {@code n} items that each have something or not: what the resampled share's
   * distribution, a binomial one, has exactly.
   */
  public static Interval ofShare(double share, int n) {
    if (n == 0 || Double.isNaN(share)) {
      return NONE;
    }
    BinomialDistribution drawn = new BinomialDistribution(null, n, share);
    return new Interval(
        share,
        (double) drawn.inverseCumulativeProbability(0.025) / n,
        (double) drawn.inverseCumulativeProbability(0.975) / n,
        n);
  }

  /** Linear between neighbours, as numpy's default. */
  private static double quantile(double[] sorted, double share) {
    double at = share * (sorted.length - 1);
    int below = (int) at;
    int above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
  }

  /** Whether a value is none that the interval rules out. */
  public boolean contains(double other) {
    return low <= other && other <= high;
  }
}
