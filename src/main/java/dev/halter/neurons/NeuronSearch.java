package dev.halter.neurons;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;

/** Finds neurons in a map by token, and tokens by neuron. */
public final class NeuronSearch {
  private NeuronSearch() {}

  /**
   * A neuron and one of its tokens.
   *
   * @param sign 1 or -1: which sign of the weight vector decodes to the token
   * @param rank 0 for the neuron's top token
   * @param probability softmax over the whole vocabulary, exp(logit − log Z)
   */
  public record Hit(
      int layer, int neuron, int sign, int rank, int tokenId, float logit, double probability) {}

  /** Neurons among whose kept tokens is one of {@code tokens}, most probable first. */
  public static List<Hit> byToken(NeuronMap map, Set<Integer> tokens, int top) {
    List<Hit> hits = new ArrayList<>();
    int[] factors = map.settings().sign().factors();
    for (int layer = 0; layer < map.settings().layers(); layer++) {
      for (int neuron = 0; neuron < map.settings().neurons(); neuron++) {
        for (int s = 0; s < factors.length; s++) {
          for (int rank = 0; rank < map.settings().k(); rank++) {
            if (tokens.contains(map.tokenIds()[map.at(layer, neuron, s) + rank])) {
              hits.add(hit(map, layer, neuron, s, rank));
              break;
            }
          }
        }
      }
    }
    hits.sort(Comparator.comparingDouble(Hit::probability).reversed());
    return hits.subList(0, Math.min(top, hits.size()));
  }

  /**
   * A neuron's tokens, sign by sign, best first.
   *
   * @throws IllegalArgumentException if the map has no such neuron
   */
  public static List<Hit> byNeuron(NeuronMap map, int layer, int neuron, int top) {
    NeuronMap.Settings settings = map.settings();
    if (layer < 0 || layer >= settings.layers() || neuron < 0 || neuron >= settings.neurons()) {
      throw new IllegalArgumentException(
          "no neuron %d.%d: layers are 0 to %d, neurons 0 to %d"
              .formatted(layer, neuron, settings.layers() - 1, settings.neurons() - 1));
    }
    List<Hit> hits = new ArrayList<>();
    for (int s = 0; s < settings.sign().factors().length; s++) {
      for (int rank = 0; rank < Math.min(top, settings.k()); rank++) {
        hits.add(hit(map, layer, neuron, s, rank));
      }
    }
    return hits;
  }

  private static Hit hit(NeuronMap map, int layer, int neuron, int s, int rank) {
    int at = map.at(layer, neuron, s) + rank;
    float logit = map.logits()[at];
    return new Hit(
        layer,
        neuron,
        map.settings().sign().factors()[s],
        rank,
        map.tokenIds()[at],
        logit,
        Math.exp(logit - map.logZ()[map.row(layer, neuron, s)]));
  }
}
