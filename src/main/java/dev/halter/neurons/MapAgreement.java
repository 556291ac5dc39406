package dev.halter.neurons;

/**
 * How far two maps agree: the share of neurons that have the same top token. Davies (arXiv
 * 2501.02688) reports 75.4 % for the up-projections of Llama-3.1-8B and its instruct version; that
 * the rule is the top token's identity is our inference.
 *
 * @param agreement over all neurons (and signs)
 * @param perLayer layer by layer
 */
public record MapAgreement(double agreement, double[] perLayer) {

  /**
   * Compares two maps of equal settings.
   *
   * @throws IllegalArgumentException if their shapes, projections, decodings or signs differ
   */
  public static MapAgreement of(NeuronMap a, NeuronMap b) {
    NeuronMap.Settings s = a.settings();
    NeuronMap.Settings t = b.settings();
    if (s.projection() != t.projection() || s.decode() != t.decode() || s.sign() != t.sign()) {
      throw new IllegalArgumentException(
          "the maps cannot be compared: one is proj %s, decode %s, sign %s, the other %s, %s, %s"
              .formatted(
                  s.projection(), s.decode(), s.sign(), t.projection(), t.decode(), t.sign()));
    }
    if (s.layers() != t.layers() || s.neurons() != t.neurons()) {
      throw new IllegalArgumentException(
          "the maps cannot be compared: %d layers of %d neurons against %d of %d"
              .formatted(s.layers(), s.neurons(), t.layers(), t.neurons()));
    }
    int signs = s.sign().factors().length;
    double[] perLayer = new double[s.layers()];
    long same = 0;
    for (int layer = 0; layer < s.layers(); layer++) {
      int inLayer = 0;
      for (int neuron = 0; neuron < s.neurons(); neuron++) {
        for (int sign = 0; sign < signs; sign++) {
          if (a.tokenIds()[a.at(layer, neuron, sign)] == b.tokenIds()[b.at(layer, neuron, sign)]) {
            inLayer++;
          }
        }
      }
      perLayer[layer] = (double) inLayer / (s.neurons() * signs);
      same += inLayer;
    }
    return new MapAgreement((double) same / ((long) s.layers() * s.neurons() * signs), perLayer);
  }
}
