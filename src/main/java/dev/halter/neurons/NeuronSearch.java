package dev.halter.neurons;

import dev.halter.files.Json;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntFunction;

/**
 * Finds neurons in a map by token, and tokens by neuron.
 *
 * <p>By token through an inverted index, token → places in {@link NeuronMap#tokenIds}, which a
 * counting sort builds in one go: two passes over the ids, 4 bytes for each. For the 9.2 million
 * ids of Llama-3.1-8B (458,752 neurons, two signs, 10 tokens each) that takes about 0.1 s on one
 * core; a question then takes what its hits take, about 0.1 ms for 140 neurons. {@code
 * NeuronSearchBenchmark} measures both.
 */
public final class NeuronSearch {
  private final NeuronMap map;
  private final int[] starts; // [vocabulary + 1]: a token's places are places[starts[id]..)
  private final int[] places; // [L * F * S * K], ascending for each token

  /** Indexes a map. */
  public NeuronSearch(NeuronMap map) {
    this.map = map;
    int[] ids = map.tokenIds();
    this.starts = new int[map.settings().vocabulary() + 1];
    for (int id : ids) {
      starts[id + 1]++;
    }
    Arrays.parallelPrefix(starts, Integer::sum);
    this.places = new int[ids.length];
    int[] next = starts.clone();
    for (int place = 0; place < ids.length; place++) {
      places[next[ids[place]]++] = place;
    }
  }

  /**
   * A neuron and one of its tokens.
   *
   * @param sign 1 or -1: which sign of the weight vector decodes to the token
   * @param rank 0 for the neuron's top token
   * @param probability softmax over the whole vocabulary, exp(logit − log Z)
   */
  public record Hit(
      int layer, int neuron, int sign, int rank, int tokenId, float logit, double probability) {

    /** As JSON, by the keys that answers of commands and of the server have. */
    public Map<String, Object> json(IntFunction<String> piece) {
      return Json.object(
          "layer", layer,
          "neuron", neuron,
          "sign", sign,
          "rank", rank,
          "token_id", tokenId,
          "token", piece.apply(tokenId),
          "logit", logit,
          "probability", probability);
    }
  }

  /**
   * Which hits are wanted.
   *
   * @param firstLayer from this layer on
   * @param lastLayer up to this layer, itself included
   * @param minProbability at least so probable
   * @param top at most so many
   */
  public record Bounds(int firstLayer, int lastLayer, double minProbability, int top) {
    /** Every hit. */
    public static final Bounds NONE = top(Integer.MAX_VALUE);

    /** The best hits. */
    public static Bounds top(int count) {
      return new Bounds(0, Integer.MAX_VALUE, 0, count);
    }
  }

  public NeuronMap map() {
    return map;
  }

  /** The site of a layer's neurons of this map: where a clamp of a hit acts. */
  public Site site(Hit hit) {
    return new Site(map.settings().projection().site(), hit.layer);
  }

  /**
   * Neurons among whose kept tokens is one of {@code tokens}, most probable first; each neuron once
   * for each sign, with the best of these tokens.
   */
  public List<Hit> byToken(Set<Integer> tokens, Bounds bounds) {
    int[] found =
        tokens.stream()
            .filter(id -> id < map.settings().vocabulary())
            .flatMapToInt(id -> Arrays.stream(places, starts[id], starts[id + 1]))
            .sorted()
            .toArray();
    int k = map.settings().k();
    List<Hit> hits = new ArrayList<>();
    int lastRow = -1;
    for (int place : found) {
      if (place / k == lastRow) {
        continue; // an earlier one of the same neuron and sign came before
      }
      lastRow = place / k;
      Hit hit = hit(place);
      if (hit.layer >= bounds.firstLayer
          && hit.layer <= bounds.lastLayer
          && hit.probability >= bounds.minProbability) {
        hits.add(hit);
      }
    }
    hits.sort(Comparator.comparingDouble(Hit::probability).reversed());
    return hits.subList(0, Math.min(bounds.top, hits.size()));
  }

  /**
   * A neuron's tokens, sign by sign, best first.
   *
   * @throws IllegalArgumentException if the map has no such neuron
   */
  public List<Hit> byNeuron(int layer, int neuron, int top) {
    NeuronMap.Settings settings = map.settings();
    if (layer < 0 || layer >= settings.layers() || neuron < 0 || neuron >= settings.neurons()) {
      throw new IllegalArgumentException(
          "no neuron %d.%d: layers are 0 to %d, neurons 0 to %d"
              .formatted(layer, neuron, settings.layers() - 1, settings.neurons() - 1));
    }
    List<Hit> hits = new ArrayList<>();
    for (int s = 0; s < settings.sign().factors().length; s++) {
      for (int rank = 0; rank < Math.min(top, settings.k()); rank++) {
        hits.add(hit(map.at(layer, neuron, s) + rank));
      }
    }
    return hits;
  }

  private Hit hit(int place) {
    return hit(map, place);
  }

  /** What stands at a place of {@link NeuronMap#tokenIds}. */
  static Hit hit(NeuronMap map, int place) {
    NeuronMap.Settings settings = map.settings();
    int[] factors = settings.sign().factors();
    int row = place / settings.k();
    int neuron = row / factors.length;
    float logit = map.logits()[place];
    return new Hit(
        neuron / settings.neurons(),
        neuron % settings.neurons(),
        factors[row % factors.length],
        place % settings.k(),
        map.tokenIds()[place],
        logit,
        Math.exp(logit - map.logZ()[row]));
  }
}
