package dev.halter.heads;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.heads.Effects.Run;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;

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

  private final Llama model;
  private final Device device;
  private final ModelConfig config;
  private final PatchKernels kernels;
  private final Variant variant;
  private final boolean probability;
  private final int senders; // of a layer: its heads, then its MLP
  private final int d;

  private PathPatching(Llama model, Variant variant, boolean probability) {
    this.model = model;
    this.device = model.device();
    this.config = model.config();
    this.kernels = new PatchKernels(model);
    this.variant = variant;
    this.probability = probability;
    this.senders = config.nHeads() + 1;
    this.d = config.dModel();
  }

  /** Index of a head among the effects of {@link #of}. */
  public static int head(ModelConfig config, int layer, int head) {
    return layer * (config.nHeads() + 1) + head;
  }

  /** Index of an MLP among the effects of {@link #of}. */
  public static int mlp(ModelConfig config, int layer) {
    return head(config, layer, config.nHeads());
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
    PathPatching patching = new PathPatching(model, variant, probability);
    return patching.sweep(pairs, patching.pairsAtOnce(), patching.rowsAtOnce(), progress);
  }

  /** As above, with so many pairs in a sweep and so many of their rows at once through an MLP. */
  static Effects of(
      Llama model,
      List<Pair> pairs,
      Variant variant,
      boolean probability,
      int pairsAtOnce,
      int rowsAtOnce) {
    return new PathPatching(model, variant, probability)
        .sweep(pairs, pairsAtOnce, rowsAtOnce, done -> {});
  }

  private int pairsAtOnce() {
    int layers = config.nLayers();
    long rows = 1 + (long) layers * senders;
    long recorded = (long) layers * ((long) config.nHeads() * config.dHead() + 2L * d) + d;
    long budget = Math.min(device.memory().free() / 2, 4L << 30);
    return Math.clamp(budget / (4L * (rows * d + recorded)), 1, 1 << 16);
  }

  /** Enough for products at full speed, few enough for what is between them to stay in caches. */
  private int rowsAtOnce() {
    return device.sharesHostMemory() ? 512 : 8192;
  }

  private Effects sweep(List<Pair> pairs, int pairsAtOnce, int rowsAtOnce, IntConsumer progress) {
    Effects effects = new Effects(config.nLayers() * senders);
    // Equal parts, so that none is small.
    int parts = (pairs.size() + pairsAtOnce - 1) / pairsAtOnce;
    int first = 0;
    try (Positionwise positionwise = new Positionwise(model, rowsAtOnce)) {
      for (int part = 0; part < parts; part++) {
        int end = (int) ((part + 1L) * pairs.size() / parts);
        List<Pair> some = pairs.subList(first, end);
        try (Sweep sweep = new Sweep(some, positionwise, progress, first * config.nLayers())) {
          sweep.run(effects);
        }
        first = end;
      }
    }
    return effects;
  }

  /**
   * The rows of some pairs on their way up: row {@code group · pairs + pair}; group 0 no sender.
   */
  private final class Sweep implements AutoCloseable {
    private final List<Pair> pairs;
    private final int n;
    private final Positionwise positionwise;
    private final IntConsumer progress;
    private final int doneBefore;
    private final Recording recording;
    private final Buffer x; // [groups, n, d_model] f32
    private final Buffer narrowed; // [n, n_heads d_head] T: differences of z, where T is not f32
    private int groups; // that have joined

    Sweep(List<Pair> pairs, Positionwise positionwise, IntConsumer progress, int doneBefore) {
      this.pairs = pairs;
      this.n = pairs.size();
      this.positionwise = positionwise;
      this.progress = progress;
      this.doneBefore = doneBefore;
      Set<Site> references = new HashSet<>();
      Set<Site> differences = new HashSet<>();
      for (int layer = 0; layer < config.nLayers(); layer++) {
        differences.add(new Site(Site.Kind.Z, layer));
        differences.add(new Site(Site.Kind.MLP_OUT, layer));
        if (layer > 0 && variant == Variant.RECOMPUTE) {
          references.add(new Site(Site.Kind.ATTN_OUT, layer));
        }
      }
      references.add(start());
      this.recording = new Recording(model, kernels, pairs, false, references, differences);
      this.x = device.allocate(4L * n * d * (1 + config.nLayers() * senders));
      this.narrowed =
          model.type() == DType.F32
              ? null
              : device.allocate((long) n * config.nHeads() * config.dHead() * 2);
    }

    /** Where the rows without a sender begin. */
    private Site start() {
      return variant == Variant.RECOMPUTE
          ? new Site(Site.Kind.RESID_MID, 0)
          : new Site(Site.Kind.RESID_POST, config.nLayers() - 1);
    }

    void run(Effects effects) {
      group(0).copyFrom(recording.reference(start()));
      groups = 1;
      for (int layer = 0; layer < config.nLayers(); layer++) {
        if (variant == Variant.RECOMPUTE && layer > 0) {
          Buffer attention = recording.reference(new Site(Site.Kind.ATTN_OUT, layer));
          kernels.addRepeated(x, groups * n, attention, n, d, 1);
        }
        addHeads(layer);
        if (variant == Variant.RECOMPUTE) {
          mlp(layer);
        }
        addMlp(layer);
        progress.accept(doneBefore + (layer + 1) * n);
      }
      measure(effects);
    }

    private Buffer group(int group) {
      return x.slice(4L * n * d * group, 4L * n * d);
    }

    /**
     * Joins a layer's heads: the row without a sender + Δz · W_O, each head with its part of it.
     */
    private void addHeads(int layer) {
      int dHead = config.dHead();
      int width = config.nHeads() * dHead;
      Matrix z = typed(recording.difference(new Site(Site.Kind.Z, layer)), width);
      Linear o = model.weights().layer(layer).o();
      for (int head = 0; head < config.nHeads(); head++) {
        device.multiply(
            n,
            d,
            dHead,
            columns(z, head * dHead),
            columns(o.matrix(), head * dHead),
            new Matrix(group(groups + head), DType.F32, d));
      }
      join(config.nHeads());
    }

    /** Joins a layer's MLP: the row without a sender + Δ of what the MLP adds. */
    private void addMlp(int layer) {
      group(groups).copyFrom(recording.difference(new Site(Site.Kind.MLP_OUT, layer)));
      join(1);
    }

    private void join(int count) {
      kernels.addRepeated(x.slice(4L * n * d * groups), count * n, group(0), n, d, 1);
      groups += count;
    }

    private Matrix typed(Buffer values, int width) {
      if (narrowed == null) {
        return new Matrix(values, DType.F32, width);
      }
      kernels.narrow(narrowed, values, (long) n * width);
      return new Matrix(narrowed, model.type(), width);
    }

    private static Matrix columns(Matrix matrix, int from) {
      return new Matrix(
          matrix.buffer().slice((long) from * matrix.type().bytes()),
          matrix.type(),
          matrix.rowStride());
    }

    private void mlp(int layer) {
      for (int row = 0; row < groups * n; row += positionwise.rows()) {
        int count = Math.min(positionwise.rows(), groups * n - row);
        positionwise.mlp(layer, x.slice(4L * row * d), count);
      }
    }

    private void measure(Effects effects) {
      Run[] runs = Readout.of(model, kernels, positionwise, x, groups * n, pairs, probability);
      for (int pair = 0; pair < n; pair++) {
        effects.addReference(runs[pair]);
        for (int group = 1; group < groups; group++) {
          effects.add(group - 1, runs[pair], runs[group * n + pair]);
        }
      }
    }

    @Override
    public void close() {
      x.close();
      recording.close();
      if (narrowed != null) {
        narrowed.close();
      }
    }
  }
}
