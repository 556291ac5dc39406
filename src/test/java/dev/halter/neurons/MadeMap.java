package dev.halter.neurons;

import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Settings;
import dev.halter.neurons.NeuronMap.Sign;
import java.util.SplittableRandom;

/** Maps made for tests of what reads them. */
final class MadeMap {
  private MadeMap() {}

  /** A map with random distinct tokens and falling logits. */
  static NeuronMap random(Sign sign, int layers, int neurons, int vocabulary, int k, long seed) {
    int rows = layers * neurons * sign.factors().length;
    int[] ids = new int[rows * k];
    float[] logits = new float[rows * k];
    float[] logZ = new float[rows];
    float[] norms = new float[layers * neurons];
    SplittableRandom random = new SplittableRandom(seed);
    for (int row = 0; row < rows; row++) {
      float logit = random.nextFloat() * 4;
      int step = 1 + random.nextInt(vocabulary / k);
      int id = random.nextInt(vocabulary);
      logZ[row] = (float) (logit + Math.log(vocabulary) - random.nextDouble());
      for (int rank = 0; rank < k; rank++) {
        ids[row * k + rank] = (id + rank * step) % vocabulary;
        logits[row * k + rank] = logit;
        logit -= random.nextFloat();
      }
    }
    for (int i = 0; i < norms.length; i++) {
      norms[i] = random.nextFloat();
    }
    Settings settings =
        new Settings("f", Projection.UP, Decode.RAW, sign, layers, neurons, vocabulary, k);
    return new NeuronMap(settings, ids, logits, logZ, norms);
  }

  /** A map of these tokens, row by row; its logits say nothing. */
  static NeuronMap of(Settings settings, int... ids) {
    int rows = ids.length / settings.k();
    return new NeuronMap(
        settings,
        ids,
        new float[ids.length],
        new float[rows],
        new float[settings.layers() * settings.neurons()]);
  }
}
