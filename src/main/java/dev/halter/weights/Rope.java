package dev.halter.weights;

/**
 * How rotary position embeddings (RoFormer, Su et al. 2021) turn with position. Pair {@code i} of a
 * head's {@code d_head} dimensions, {@code i} in {@code [0, d_head/2)}, is the dimensions {@code i}
 * and {@code i + d_head/2}; at position {@code p} it turns by {@code p * inverseFrequencies[i]}
 * radians.
 */
public sealed interface Rope {
  /** Base of the frequencies. */
  double theta();

  /** Frequencies {@code theta^(-2i/d_head)}. */
  record Default(double theta) implements Rope {}

  /** All frequencies divided by {@code factor} (position interpolation, Chen et al. 2023). */
  record Linear(double theta, double factor) implements Rope {}

  /**
   * Llama 3.1's stretching: frequencies with a wavelength over {@code originalMaxPositions /
   * lowFreqFactor} are divided by {@code factor}, those under {@code originalMaxPositions /
   * highFreqFactor} stay, those between are blended.
   */
  record Llama3(
      double theta,
      double factor,
      double lowFreqFactor,
      double highFreqFactor,
      int originalMaxPositions)
      implements Rope {}

  /**
   * The {@code dHead / 2} angles in radians per position. Every operation is done in f32 and in the
   * order in which transformers does it (modeling_rope_utils.py, 5.18), so that angles agree at
   * large positions too; only the last bit of the powers may differ, as it does between its
   * devices.
   */
  default float[] inverseFrequencies(int dHead) {
    float[] frequencies = new float[dHead / 2];
    for (int i = 0; i < frequencies.length; i++) {
      float exponent = (float) (2 * i) / dHead;
      frequencies[i] = scaled(1.0f / (float) Math.pow((float) theta(), exponent));
    }
    return frequencies;
  }

  private float scaled(float frequency) {
    return switch (this) {
      case Default plain -> frequency;
      case Linear linear -> frequency / (float) linear.factor();
      case Llama3 llama3 -> {
        float wavelength = 1 / frequency * (float) (2 * Math.PI);
        float longest = (float) (llama3.originalMaxPositions() / llama3.lowFreqFactor());
        float shortest = (float) (llama3.originalMaxPositions() / llama3.highFreqFactor());
        float factor = (float) llama3.factor();
        if (wavelength < shortest) {
          yield frequency;
        }
        if (wavelength > longest) {
          yield frequency / factor;
        }
        float smooth =
            (1 / wavelength * llama3.originalMaxPositions() - (float) llama3.lowFreqFactor())
                / (float) (llama3.highFreqFactor() - llama3.lowFreqFactor());
        yield (1 - smooth) * frequency / factor + smooth * frequency;
      }
    };
  }
}
