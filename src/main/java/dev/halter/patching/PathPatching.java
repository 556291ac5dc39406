package dev.halter.patching;

import dev.halter.device.Scope;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Llama;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.patching.EffectSums.Run;
import dev.halter.weights.ModelConfig;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;
import java.util.function.IntFunction;

/**
 * Exact path patching from every head and every MLP to the logits of the last token.
 *
 * <p>Source: Wang et al., "Interpretability in the Wild" (arXiv 2211.00593, appendix B): the
 * sender's output at the last token is that of the counterfactual run, every other head's that of
 * the reference run, MLPs and norms are recomputed; the receiver is the end of the residual stream.
 *
 * <p>With every attention output frozen, tokens no longer see one another, so only the last one can
 * change. Two forward passes a pair leave all that a sweep needs; then each sender is one row,
 * which joins at its layer, has the reference's attention outputs added at the layers after it and
 * goes through their MLPs. All senders' rows of all pairs go through a layer together, so that its
 * weights are read once. One row a pair has no sender: effects are differences to its logits.
 */
public final class PathPatching {
  /** What happens to the MLPs between a sender and the logits. */
  public enum Variant {
    /** Recomputed, as are all norms: the paper's own path patching. */
    RECOMPUTE,
    /** Frozen to the reference run; only the final norm is recomputed. */
    FROZEN
  }

  private PathPatching() {}

  /**
   * Sweeps all heads and MLPs of a model, with MLPs recomputed and logits alone measured. Blocks
   * until all pairs are done:
   *
   * {@snippet file="dev/halter/snippets/PatchingSnippetsTest.java" region="patch"}
   *
   * @throws dev.halter.device.OutOfDeviceMemoryException if not even one pair fits
   */
  public static Effects of(LanguageModel model, List<Pair> pairs) {
    return of(model.llama(), pairs, Variant.RECOMPUTE, false, done -> {});
  }

  /**
   * Sweeps all heads and MLPs.
   *
   * @param probability whether probabilities are measured: their log-sum-exp costs a product with
   *     the whole LM head for each sender and pair
   * @param progress hears of work done, in layers of pairs: of {@code pairs.size() · n_layers}
   * @throws dev.halter.device.OutOfDeviceMemoryException if not even one pair fits
   */
  public static Effects of(
      Llama model, List<Pair> pairs, Variant variant, boolean probability, IntConsumer progress) {
    return of(
        model, pairs, variant, probability, pairsAtOnce(model), PathRows.atOnce(model), progress);
  }

  private static int pairsAtOnce(Llama model) {
    long free = model.device().memory().free();
    long bytes = PathRows.bytes(model.config(), model.config().nLayers());
    return Math.clamp(Math.min(free / 2, 4L << 30) / bytes, 1, 1 << 16);
  }

  /** As above, with so many pairs in a sweep and so many of their rows at once through an MLP. */
  static Effects of(
      Llama model,
      List<Pair> pairs,
      Variant variant,
      boolean probability,
      int pairsAtOnce,
      int rowsAtOnce,
      IntConsumer progress) {
    Effects effects = new Effects(model.config());
    sweeps(model, pairs, variant, probability, pairsAtOnce, rowsAtOnce, pair -> effects, progress);
    return effects;
  }

  /**
   * Sweeps all heads and MLPs, and tells the effects of each pair by itself.
   *
   * @throws dev.halter.device.OutOfDeviceMemoryException if not even one pair fits
   */
  public static List<Effects> ofEach(
      Llama model, List<Pair> pairs, Variant variant, boolean probability) {
    List<Effects> each = pairs.stream().map(pair -> new Effects(model.config())).toList();
    sweeps(
        model,
        pairs,
        variant,
        probability,
        pairsAtOnce(model),
        PathRows.atOnce(model),
        each::get,
        done -> {});
    return each;
  }

  /**
   * Sweeps so few pairs together that steps of the model can be run whenever {@code progress} is
   * told, without long between: what the sweep needs then lies in buffers of its own, not much
   * larger than those of a step, and none of its sequences is open. Else as above; {@link
   * Effects#plus} joins pieces.
   *
   * @param pairs at most {@link #pairsOfAPiece}
   */
  public static Effects ofPiece(
      Llama model, List<Pair> pairs, Variant variant, boolean probability, IntConsumer progress) {
    int rows = Math.min(PathRows.atOnce(model), model.limits().rows());
    return of(model, pairs, variant, probability, pairs.size(), rows, progress);
  }

  /** How many pairs go up a model's layers in pieces that are about as long as a step. */
  public static int pairsOfAPiece(Llama model) {
    ModelConfig config = model.config();
    int rows = 1 + config.nLayers() * (config.nHeads() + 1);
    return Math.clamp(model.limits().rows() / rows, 1, 64);
  }

  /**
   * @param effects those that a pair is added to
   */
  private static void sweeps(
      Llama model,
      List<Pair> pairs,
      Variant variant,
      boolean probability,
      int pairsAtOnce,
      int rowsAtOnce,
      IntFunction<Effects> effects,
      IntConsumer progress) {
    int layers = model.config().nLayers();
    // Equal parts, so that none is small.
    int parts = (pairs.size() + pairsAtOnce - 1) / pairsAtOnce;
    int first = 0;
    try (Scope scope = model.device().scope()) {
      Positionwise positionwise = new Positionwise(scope, model, rowsAtOnce);
      for (int part = 0; part < parts; part++) {
        int end = (int) ((part + 1L) * pairs.size() / parts);
        int start = first;
        sweep(
            model,
            pairs.subList(first, end),
            variant,
            probability,
            positionwise,
            pair -> effects.apply(start + pair),
            done -> progress.accept(start * layers + done));
        first = end;
      }
    }
  }

  private static void sweep(
      Llama model,
      List<Pair> pairs,
      Variant variant,
      boolean probability,
      Positionwise positionwise,
      IntFunction<Effects> effects,
      IntConsumer progress) {
    PatchKernels kernels = new PatchKernels(model);
    int layers = model.config().nLayers();
    int n = pairs.size();
    boolean recompute = variant == Variant.RECOMPUTE;
    Site start =
        recompute ? new Site(Site.Kind.RESID_MID, 0) : new Site(Site.Kind.RESID_POST, layers - 1);
    Set<Site> references = new HashSet<>(Set.of(start));
    if (recompute) {
      references.addAll(PathRows.attention(layers));
    }
    try (Scope scope = model.device().scope()) {
      PairActivations activations =
          new PairActivations(scope, model, pairs, false, references, PathRows.senders(layers));
      PathRows rows = new PathRows(scope, model, kernels, positionwise, activations, layers);
      rows.begin(start);
      for (int layer = 0; layer < layers; layer++) {
        if (recompute && layer > 0) {
          rows.addAttention(layer);
        }
        rows.joinHeads(layer);
        if (recompute) {
          rows.addMlp(layer);
        }
        rows.joinMlp(layer);
        progress.accept((layer + 1) * n);
      }
      Run[] runs =
          Readout.of(model, kernels, positionwise, rows.x(), rows.count(), pairs, probability);
      for (int pair = 0; pair < n; pair++) {
        Effects sums = effects.apply(pair);
        sums.addReference(runs[pair]);
        for (int sender = 0; sender < sums.size(); sender++) {
          sums.add(sender, runs[pair], runs[(1 + sender) * n + pair]);
        }
      }
    }
  }
}
