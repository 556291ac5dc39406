package dev.halter.tuning;

import dev.halter.model.Head;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames.Block;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.function.ToIntFunction;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * What is tuned: of chosen heads rows of W_Q, W_K and W_V and columns of W_O, and whole MLPs
 * (precise SFT, Zhang et al. 2409.01659, algorithm 2); or a vector for each chosen head's output
 * (LoFiT), which leaves all weights alone. Under grouped-query attention the keys and values of a
 * head are those of its group, so tuning them moves every head that reads them. Biases and norms
 * are never tuned.
 */
public final class Selection {
  /** The parts of a head as the paper's text has them. */
  public static final Set<Block> ALL_PARTS =
      Collections.unmodifiableSet(EnumSet.of(Block.Q, Block.K, Block.V, Block.O));

  private final List<Slice> slices = new ArrayList<>();
  private final List<HeadVectors> vectors = new ArrayList<>();
  private final List<Head> heads;

  /**
   * Chooses weights.
   *
   * @param mlps layers
   * @param parts which of q, k, v and o of the heads
   * @throws IllegalArgumentException if nothing is chosen or the model has not got it
   */
  public Selection(
      ModelConfig config, Collection<Head> heads, Collection<Integer> mlps, Set<Block> parts) {
    this.heads = ofModel(config, heads);
    mlps.stream()
        .filter(layer -> layer < 0 || layer >= config.nLayers())
        .findFirst()
        .ifPresent(Selection::refuse);
    for (int layer = 0; layer < config.nLayers(); layer++) {
      int each = layer;
      List<Head> here = heads.stream().filter(head -> head.layer() == each).toList();
      if (parts.contains(Block.Q)) {
        addRows(Block.Q, layer, config, here, Head::head);
      }
      for (Block part : List.of(Block.K, Block.V)) {
        if (parts.contains(part)) {
          addRows(part, layer, config, here, head -> head.kvHead(config));
        }
      }
      if (parts.contains(Block.O)) {
        for (int[] run : runs(here, Head::head)) {
          slices.add(
              new Slice(
                  layer,
                  Block.O,
                  0,
                  config.dModel(),
                  run[0] * config.dHead(),
                  run[1] * config.dHead()));
        }
      }
      if (mlps.contains(layer)) {
        int d = config.dModel();
        int f = config.dMlp();
        slices.add(new Slice(layer, Block.GATE, 0, f, 0, d));
        slices.add(new Slice(layer, Block.UP, 0, f, 0, d));
        slices.add(new Slice(layer, Block.DOWN, 0, d, 0, f));
      }
    }
    requireSome();
  }

  /**
   * Chooses vectors.
   *
   * @throws IllegalArgumentException if there is no head or the model has not got it
   */
  public Selection(ModelConfig config, Collection<Head> heads, HeadVector kind) {
    this.heads = ofModel(config, heads);
    for (int layer = 0; layer < config.nLayers(); layer++) {
      int each = layer;
      List<Head> here =
          this.heads.stream()
              .filter(head -> head.layer() == each)
              .sorted(Comparator.comparingInt(Head::head))
              .toList();
      if (!here.isEmpty()) {
        vectors.add(new HeadVectors(kind, layer, here, config.dHead()));
      }
    }
    requireSome();
  }

  private static List<Head> ofModel(ModelConfig config, Collection<Head> heads) {
    heads.stream().filter(head -> !head.isOf(config)).findFirst().ifPresent(Selection::refuse);
    return heads.stream().distinct().toList();
  }

  private void requireSome() {
    if (all().isEmpty()) {
      throw new IllegalArgumentException("nothing is chosen for tuning");
    }
  }

  private static void refuse(Object absent) {
    throw new IllegalArgumentException("the model has no head or layer " + absent);
  }

  private void addRows(
      Block part, int layer, ModelConfig config, List<Head> heads, ToIntFunction<Head> index) {
    int dHead = config.dHead();
    for (int[] run : runs(heads, index)) {
      slices.add(new Slice(layer, part, run[0] * dHead, run[1] * dHead, 0, config.dModel()));
    }
  }

  /** Neighbours together, as {first, count}. */
  private static List<int[]> runs(List<Head> heads, ToIntFunction<Head> index) {
    List<int[]> runs = new ArrayList<>();
    for (int at : heads.stream().mapToInt(index).sorted().distinct().toArray()) {
      int[] last = runs.isEmpty() ? null : runs.getLast();
      if (last != null && last[0] + last[1] == at) {
        last[1]++;
      } else {
        runs.add(new int[] {at, 1});
      }
    }
    return runs;
  }

  /** All slices of weights, layer by layer. */
  List<Slice> slices() {
    return slices;
  }

  /** All vectors of heads, layer by layer. */
  List<HeadVectors> vectors() {
    return vectors;
  }

  /** All of both. */
  List<Tuned> all() {
    return Stream.<Tuned>concat(slices.stream(), vectors.stream()).toList();
  }

  /** Whether what comes of it is a plan, and no weight changes. */
  public boolean isOfVectors() {
    return !vectors.isEmpty();
  }

  /** The vectors of a layer's heads, if it has some. */
  Optional<HeadVectors> vectors(int layer) {
    return vectors.stream().filter(each -> each.layer() == layer).findFirst();
  }

  /** Those of a projection. */
  List<Slice> slices(int layer, Block part) {
    return slices.stream().filter(s -> s.layer() == layer && s.part() == part).toList();
  }

  /** Whether any of these projections is tuned in a layer. */
  boolean tunes(int layer, Block... parts) {
    return slices.stream().anyMatch(s -> s.layer() == layer && List.of(parts).contains(s.part()));
  }

  /** The lowest layer of which anything is tuned: below it nothing has a gradient. */
  int lowestLayer() {
    return all().stream().mapToInt(Tuned::layer).min().orElseThrow();
  }

  /** Names of the tensors that they are slices of. */
  Set<String> tensors() {
    return slices.stream().map(Slice::tensor).collect(Collectors.toSet());
  }

  /** How many heads are chosen in a layer. */
  int heads(int layer) {
    return (int) heads.stream().filter(head -> head.layer() == layer).count();
  }

  /** Numbers that are tuned. */
  public long parameters() {
    return all().stream().mapToLong(Tuned::elements).sum();
  }
}
