package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.HashSet;
import java.util.Set;

/**
 * Residual streams of path patching on their way up, f32 [groups, n, d_model] for the n rows of a
 * {@link PairActivations}. Group 0 has no sender; then come, layer by layer, one group for each
 * head and one for the MLP. All other heads are the reference's.
 */
final class PathRows {
  private final Llama model;
  private final Device device;
  private final ModelConfig config;
  private final PatchKernels kernels;
  private final Positionwise positionwise;
  private final PairActivations activations;
  private final int n;
  private final int d;
  private final Buffer x;
  private final Buffer narrowed; // [n, n_heads d_head] T: differences of z, where T is not f32
  private int groups; // that have joined

  /** For the senders of {@code layers} layers; its buffers live in {@code scope}. */
  PathRows(
      Scope scope,
      Llama model,
      PatchKernels kernels,
      Positionwise positionwise,
      PairActivations activations,
      int layers) {
    this.model = model;
    this.device = model.device();
    this.config = model.config();
    this.kernels = kernels;
    this.positionwise = positionwise;
    this.activations = activations;
    this.n = activations.rows();
    this.d = config.dModel();
    this.x = scope.allocate(4L * n * d * (1 + layers * (config.nHeads() + 1)));
    this.narrowed =
        model.type() == DType.F32
            ? null
            : scope.allocate((long) n * config.nHeads() * config.dHead() * model.type().bytes());
  }

  /** Bytes for one row of activations: of this and of the activations that it is made from. */
  static long bytes(ModelConfig config, int layers) {
    long groups = 1 + (long) layers * (config.nHeads() + 1);
    long recorded =
        (long) layers * ((long) config.nHeads() * config.dHead() + 2L * config.dModel());
    return 4 * (groups * config.dModel() + recorded + config.dModel());
  }

  /**
   * Rows at once through an MLP: enough for products at full speed, few enough for what lies
   * between them to stay in a CPU's caches.
   */
  static int atOnce(Llama model) {
    return model.device().wantsLargePieces() ? 8192 : 512;
  }

  /** Sites of which activations must have differences. */
  static Set<Site> senders(int layers) {
    Set<Site> sites = new HashSet<>();
    for (int layer = 0; layer < layers; layer++) {
      sites.add(new Site(Site.Kind.Z, layer));
      sites.add(new Site(Site.Kind.MLP_OUT, layer));
    }
    return sites;
  }

  /** Sites of which activations must have the reference's values for {@link #addAttention}. */
  static Set<Site> attention(int layers) {
    Set<Site> sites = new HashSet<>();
    for (int layer = 1; layer < layers; layer++) {
      sites.add(new Site(Site.Kind.ATTN_OUT, layer));
    }
    return sites;
  }

  /** All rows that have joined, group by group. */
  Buffer x() {
    return x;
  }

  /** How many. */
  int count() {
    return groups * n;
  }

  /** Groups that have joined. */
  int groups() {
    return groups;
  }

  /** Begins with the row that has no sender, at a site of the reference. */
  void begin(Site site) {
    group(0).copyFrom(activations.reference(site));
    groups = 1;
  }

  /** Adds the reference's attention output of a layer. */
  void addAttention(int layer) {
    Buffer attention = activations.reference(new Site(Site.Kind.ATTN_OUT, layer));
    kernels.addRepeated(x, count(), attention, n);
  }

  /** Adds a layer's MLP, recomputed for each row. */
  void addMlp(int layer) {
    for (int row = 0; row < count(); row += positionwise.rows()) {
      int rows = Math.min(positionwise.rows(), count() - row);
      positionwise.mlp(layer, x.slice(4L * row * d), rows);
    }
  }

  /** A layer's heads join: the row without a sender + Δz · W_O, each head with its part of it. */
  void joinHeads(int layer) {
    int dHead = config.dHead();
    int width = config.nHeads() * dHead;
    Matrix z = typed(activations.difference(new Site(Site.Kind.Z, layer)), width);
    Linear o = model.weights().layer(layer).o();
    for (int head = 0; head < config.nHeads(); head++) {
      device.multiply(
          n,
          d,
          dHead,
          z.columnsFrom(head * dHead),
          o.matrix().columnsFrom(head * dHead),
          new Matrix(group(groups + head), DType.F32, d));
    }
    join(config.nHeads());
  }

  /** A layer's MLP joins: the row without a sender + Δ of what the MLP adds. */
  void joinMlp(int layer) {
    group(groups).copyFrom(activations.difference(new Site(Site.Kind.MLP_OUT, layer)));
    join(1);
  }

  private void join(int more) {
    kernels.addRepeated(x.slice(4L * n * d * groups), more * n, group(0), n);
    groups += more;
  }

  private Buffer group(int group) {
    return x.slice(4L * n * d * group, 4L * n * d);
  }

  private Matrix typed(Buffer values, int width) {
    if (narrowed == null) {
      return new Matrix(values, DType.F32, width);
    }
    kernels.narrow(narrowed, values, (long) n * width);
    return new Matrix(narrowed, model.type(), width);
  }
}
