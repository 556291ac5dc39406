package dev.halter.neurons;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * How far two maps agree. Davies (arXiv 2501.02688) reports that 75.4 % of the up-projection
 * neurons of Llama-3.1-8B keep their top token in its instruct version; that the rule is the top
 * token's identity, each model with its own LM head, is our inference.
 *
 * <p>Shares are over neurons, and over both signs where both maps have both.
 *
 * @param neurons that were compared
 * @param k tokens that were compared of each: the smaller map's
 * @param all over all layers and signs
 * @param perLayer layer by layer
 * @param perSign sign by sign: of w, then of −w, as far as both maps have them
 */
public record MapAgreement(
    int neurons, int k, Shares all, List<Shares> perLayer, List<SignShares> perSign) {

  /**
   * What two maps share.
   *
   * @param top share of neurons with the same top token, 0 to 1
   * @param overlap mean share of the k tokens that are among the other's k, 0 to 1; the order
   *     within them does not matter
   */
  public record Shares(double top, double overlap) {}

  /**
   * What two maps share of one sign.
   *
   * @param sign 1 for w, −1 for −w
   */
  public record SignShares(int sign, Shares shares) {}

  /**
   * Compares two maps: of two models with the same projection and decoding (what did training
   * change?), or of one model with different ones (what does the reading change?).
   *
   * @throws IllegalArgumentException if both differ, or sizes, vocabularies or signs do not fit
   */
  public static MapAgreement of(NeuronMap a, NeuronMap b) {
    NeuronMap.Settings s = a.settings();
    NeuronMap.Settings t = b.settings();
    requireComparable(s, t);
    int[] signs =
        Arrays.stream(s.sign().factors())
            .filter(sign -> indexOf(sign, t.sign().factors()) >= 0)
            .toArray();
    if (signs.length == 0) {
      throw cannot("one is of sign %s, the other of %s".formatted(s.sign(), t.sign()));
    }
    int k = Math.min(s.k(), t.k());
    long[][] top = new long[s.layers()][signs.length];
    long[][] common = new long[s.layers()][signs.length];
    for (int i = 0; i < signs.length; i++) {
      int signA = indexOf(signs[i], s.sign().factors());
      int signB = indexOf(signs[i], t.sign().factors());
      for (int layer = 0; layer < s.layers(); layer++) {
        for (int neuron = 0; neuron < s.neurons(); neuron++) {
          int atA = a.at(layer, neuron, signA);
          int atB = b.at(layer, neuron, signB);
          top[layer][i] += a.tokenIds()[atA] == b.tokenIds()[atB] ? 1 : 0;
          common[layer][i] += common(a.tokenIds(), atA, b.tokenIds(), atB, k);
        }
      }
    }
    List<Shares> perLayer = new ArrayList<>();
    for (int layer = 0; layer < s.layers(); layer++) {
      perLayer.add(
          shares(sum(top[layer]), sum(common[layer]), (long) s.neurons() * signs.length, k));
    }
    int neurons = s.layers() * s.neurons();
    List<SignShares> perSign = new ArrayList<>();
    long sumTop = 0;
    long sumCommon = 0;
    for (int i = 0; i < signs.length; i++) {
      int column = i;
      long signTop = Arrays.stream(top).mapToLong(layer -> layer[column]).sum();
      long signCommon = Arrays.stream(common).mapToLong(layer -> layer[column]).sum();
      perSign.add(new SignShares(signs[i], shares(signTop, signCommon, neurons, k)));
      sumTop += signTop;
      sumCommon += signCommon;
    }
    Shares all = shares(sumTop, sumCommon, (long) neurons * signs.length, k);
    return new MapAgreement(neurons, k, all, perLayer, perSign);
  }

  private static void requireComparable(NeuronMap.Settings s, NeuronMap.Settings t) {
    if (s.layers() != t.layers() || s.neurons() != t.neurons()) {
      throw cannot(
          "one has %d layers of %d neurons, the other %d of %d"
              .formatted(s.layers(), s.neurons(), t.layers(), t.neurons()));
    }
    if (s.vocabulary() != t.vocabulary()) {
      throw cannot(
          "one is over %,d tokens, the other over %,d".formatted(s.vocabulary(), t.vocabulary()));
    }
    boolean sameSettings = s.projection() == t.projection() && s.decode() == t.decode();
    if (!sameSettings && !s.fingerprint().equals(t.fingerprint())) {
      throw cannot(
          ("they are of two models, and one is proj %s, decode %s, the other %s, %s; of two models"
                  + " the settings must be the same")
              .formatted(
                  NeuronMap.name(s.projection()),
                  NeuronMap.name(s.decode()),
                  NeuronMap.name(t.projection()),
                  NeuronMap.name(t.decode())));
    }
  }

  private static IllegalArgumentException cannot(String reason) {
    return new IllegalArgumentException("the maps cannot be compared: " + reason);
  }

  private static int indexOf(int sign, int[] factors) {
    for (int i = 0; i < factors.length; i++) {
      if (factors[i] == sign) {
        return i;
      }
    }
    return -1;
  }

  /** How many of k ids from {@code atA} are among the k from {@code atB}; k is small. */
  private static int common(int[] a, int atA, int[] b, int atB, int k) {
    int count = 0;
    for (int i = atA; i < atA + k; i++) {
      for (int j = atB; j < atB + k; j++) {
        if (a[i] == b[j]) {
          count++;
          break;
        }
      }
    }
    return count;
  }

  private static long sum(long[] values) {
    return Arrays.stream(values).sum();
  }

  private static Shares shares(long top, long common, long rows, int k) {
    return new Shares((double) top / rows, (double) common / (rows * k));
  }
}
