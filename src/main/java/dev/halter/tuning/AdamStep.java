package dev.halter.tuning;

/**
 * What all slices of a step of AdamW have in common; the kernel's structure.
 *
 * @param kept 1 - learning rate · decay
 * @param rate learning rate / (1 - beta1^step)
 * @param share1 1 - beta1
 * @param share2 1 - beta2
 * @param root √(1 - beta2^step)
 * @param factor of the gradient
 */
record AdamStep(
    float kept,
    float rate,
    float share1,
    float beta2,
    float share2,
    float root,
    float epsilon,
    float factor) {
  private static final double BETA1 = 0.9;
  private static final double BETA2 = 0.999;
  private static final double EPSILON = 1e-8;

  /**
   * The step of this number, with torch's defaults for what is not given.
   *
   * @param step from 1
   */
  static AdamStep of(int step, double learningRate, double decay, double factor) {
    return new AdamStep(
        (float) (1 - learningRate * decay),
        (float) (learningRate / (1 - Math.pow(BETA1, step))),
        (float) (1 - BETA1),
        (float) BETA2,
        (float) (1 - BETA2),
        (float) Math.sqrt(1 - Math.pow(BETA2, step)),
        (float) EPSILON,
        (float) factor);
  }
}
