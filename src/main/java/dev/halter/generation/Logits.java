package dev.halter.generation;

/** What a row of logits on the host says of probabilities. */
public final class Logits {
  private Logits() {}

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
