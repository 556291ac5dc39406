package dev.halter.tuning;

import dev.halter.model.MemoryPlan;
import java.util.function.IntToLongFunction;

/**
 * What tuning takes of a device's memory, worked out before its first step. All in bytes.
 *
 * @param model weights, cache and scratch of the forward pass
 * @param kept what a forward pass leaves for the backward pass
 * @param learnt gradients, master copies and moments of what is tuned
 * @param prefixes residual streams of examples at the lowest tuned layer
 * @param scratch of the backward pass
 * @param lowest tuned layer
 * @param recomputed so many layers from there on are made again in the backward pass
 * @param layers of the model
 */
public record TuningMemory(
    MemoryPlan model,
    long kept,
    long learnt,
    long prefixes,
    long scratch,
    int lowest,
    int recomputed,
    int layers) {

  /**
   * As few layers as need be made again for the rest to fit. One alone would save nothing, since
   * what a layer leaves is there in any case when its own gradients are made.
   *
   * @param layers that have gradients
   * @param bytes that are needed where so many are made again
   * @return -1 if not even all of them help
   */
  static int fewest(int layers, IntToLongFunction bytes, long room) {
    for (int recomputed = 0; recomputed <= layers; recomputed++) {
      if (recomputed != 1 && bytes.applyAsLong(recomputed) <= room) {
        return recomputed;
      }
    }
    return -1;
  }

  /** What comes to the model. */
  long added() {
    return kept + learnt + prefixes + scratch;
  }

  /** One line for people. */
  @Override
  public String toString() {
    // Of the last of those that share their buffers all is there when its gradients are made.
    String again =
        recomputed < 2 ? "" : ", %s made again".formatted(layers(lowest, lowest + recomputed - 2));
    return "weights %s + KV cache and scratch %s + kept of %s %s%s + gradients and optimiser %s%s%s = %s of %s (%s free)"
        .formatted(
            MemoryPlan.gib(model.weights()),
            MemoryPlan.gib(model.cache() + model.scratch() + scratch),
            layers(lowest, layers - 1),
            MemoryPlan.gib(kept),
            again,
            MemoryPlan.gib(learnt),
            prefixes == 0 ? "" : " + prefixes " + MemoryPlan.gib(prefixes),
            model.java() == 0 ? "" : " + Java " + MemoryPlan.gib(model.java()),
            MemoryPlan.gib(
                model.weights() + model.cache() + model.scratch() + added() + model.java()),
            MemoryPlan.gib(model.total()),
            MemoryPlan.gib(model.free()));
  }

  private static String layers(int first, int last) {
    return first == last ? "layer " + first : "layers " + first + " to " + last;
  }
}
