package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.gradients.BackwardKernels;
import dev.halter.gradients.PositionwiseBackward;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.Site;
import dev.halter.patching.EffectSums.Run;
import dev.halter.weights.ModelConfig;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;

/**
 * Effects of every head and every MLP on the logits of the last token to first order: attribution
 * patching (Nanda, "Attribution Patching", 2023; Syed et al., arXiv 2310.10348), with the paths
 * that {@link PathPatching} has.
 *
 * <p>For a sender with output {@code a} at the last token, {@code r} in the reference run and
 * {@code c} in the counterfactual one, and the logit {@code y} of the answer,
 *
 * <pre>{@code Δy ≈ (c − r) · ∂y/∂a, at the reference run}</pre>
 *
 * <p>for all senders from one gradient. It is taken with every other head's output frozen and MLPs
 * and norms recomputed, as in {@link PathPatching.Variant#RECOMPUTE}: so it is that sweep's own
 * derivative, what its effects become where differences are small. (The papers take the gradient
 * through attention as well, at every position, and so estimate activation patching. That the
 * gradient of the frozen graph is the right one for path patching is inferred; the tests hold it
 * against the sweep itself.) What is not linear in a sender, its effect on the norms and through
 * MLPs, is estimated by its slope: an MLP of an early layer can be far off.
 *
 * <p>With attention frozen only the last token's row moves: after two forward passes a pair is one
 * row of a backward pass through the MLPs and norms alone, and all pairs' rows go together.
 */
public final class FirstOrder {
  private final Llama model;
  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final List<Pair> pairs;
  private final int n;
  private final PatchKernels kernels;
  private final PairActivations activations;
  private final PositionwiseBackward backward;
  private final Buffer dx; // [n, d_model] f32: the gradient of the residual stream
  private final Buffer rows; // [n, d_model] f32: of the LM head
  private final Buffer gateUp; // [n, 2 d_mlp] T
  private final Buffer post; // [n, d_mlp] T
  private final Buffer dz; // [n, n_heads d_head] f32
  private final Buffer ofHeads; // [layers, n, n_heads] f32
  private final Buffer ofMlps; // [layers, n] f32
  private final Buffer[] cells = new Buffer[2]; // where gates and ups lie in gateUp

  private FirstOrder(Scope scope, Llama model, List<Pair> pairs) {
    this.model = model;
    this.device = model.device();
    this.config = model.config();
    this.type = model.type();
    this.pairs = pairs;
    this.n = pairs.size();
    this.kernels = new PatchKernels(model);
    int layers = config.nLayers();
    this.activations =
        new PairActivations(
            scope, model, pairs, false, references(layers), PathRows.senders(layers));
    this.backward = new PositionwiseBackward(scope, model, new BackwardKernels(device, type), n);
    this.dx = scope.allocate(4L * n * config.dModel());
    this.rows = scope.allocate(4L * n * config.dModel());
    this.gateUp = scope.allocate(2L * type.bytes() * n * config.dMlp());
    this.post = scope.allocate((long) type.bytes() * n * config.dMlp());
    this.dz = scope.allocate(4L * n * zWidth());
    this.ofHeads = scope.allocate(4L * layers * n * config.nHeads());
    this.ofMlps = scope.allocate(4L * layers * n);
    for (int part = 0; part < 2; part++) {
      int column = part * config.dMlp();
      cells[part] =
          scope.of(IntStream.range(0, n).flatMap(row -> IntStream.of(row, column, row)).toArray());
    }
  }

  /** Sites of which the backward pass needs the reference's values. */
  private static Set<Site> references(int layers) {
    Set<Site> sites = new HashSet<>();
    for (int layer = 0; layer < layers; layer++) {
      for (Site.Kind kind : List.of(Site.Kind.RESID_MID, Site.Kind.PRE, Site.Kind.PRE_LINEAR)) {
        sites.add(new Site(kind, layer));
      }
    }
    sites.add(new Site(Site.Kind.RESID_POST, layers - 1));
    return sites;
  }

  private int zWidth() {
    return config.nHeads() * config.dHead();
  }

  /**
   * Estimates the effects of all heads and MLPs.
   *
   * @param progress hears of work done, in pairs
   * @throws dev.halter.device.OutOfDeviceMemoryException if not even one pair fits
   */
  public static Effects of(Llama model, List<Pair> pairs, IntConsumer progress) {
    long free = model.device().memory().free();
    int atOnce = Math.clamp(Math.min(free / 2, 4L << 30) / bytes(model.config()), 1, 512);
    return of(model, pairs, atOnce, progress);
  }

  /** As above, with so many pairs at once. */
  static Effects of(Llama model, List<Pair> pairs, int atOnce, IntConsumer progress) {
    Effects effects = new Effects(model.config());
    for (int first = 0; first < pairs.size(); first += atOnce) {
      List<Pair> part = pairs.subList(first, Math.min(pairs.size(), first + atOnce));
      try (Scope scope = model.device().scope()) {
        new FirstOrder(scope, model, part).add(effects);
      }
      progress.accept(first + part.size());
    }
    return effects;
  }

  /** Bytes for a pair, at most. */
  private static long bytes(ModelConfig config) {
    long z = (long) config.nHeads() * config.dHead();
    long recorded = config.nLayers() * (z + 2L * config.dModel() + 2L * config.dMlp());
    return 4 * (recorded + z + 5L * config.dModel() + 3L * config.dMlp());
  }

  private void add(Effects effects) {
    Run[] reference = Readout.of(model, kernels, model.positionwise(), end(), n, pairs, false);
    float[][] answers = changes(Pair::answer);
    float[][] foils = answers;
    if (pairs.stream().anyMatch(pair -> pair.foil().isPresent())) {
      foils = changes(pair -> pair.foil().orElse(pair.answer()));
    }
    model.requireWhole();
    for (int pair = 0; pair < n; pair++) {
      Run run = reference[pair];
      effects.addReference(run);
      for (int sender = 0; sender < effects.size(); sender++) {
        double logit = run.logit() + answers[sender][pair];
        double foil = run.foil() + foils[sender][pair];
        effects.add(sender, run, new Run(logit, foil, Double.NaN));
      }
    }
  }

  private Buffer end() {
    return activations.reference(new Site(Site.Kind.RESID_POST, config.nLayers() - 1));
  }

  /** What each sender changes of the logit of a token of each pair. */
  private float[][] changes(ToIntFunction<Pair> token) {
    try (Scope scope = device.scope()) {
      kernels.headRows(rows, scope.of(pairs.stream().mapToInt(token).toArray()), n);
    }
    dx.clear();
    backward.finalNorm(dx, rows, end(), n);
    for (int layer = config.nLayers() - 1; layer >= 0; layer--) {
      mlp(layer);
      heads(layer);
    }
    int each = config.nHeads() + 1;
    float[] heads = ofHeads.toFloats(config.nLayers() * n * config.nHeads());
    float[] mlps = ofMlps.toFloats(config.nLayers() * n);
    float[][] changes = new float[config.nLayers() * each][n];
    for (int layer = 0; layer < config.nLayers(); layer++) {
      for (int pair = 0; pair < n; pair++) {
        int row = layer * n + pair;
        for (int head = 0; head < config.nHeads(); head++) {
          changes[layer * each + head][pair] = heads[row * config.nHeads() + head];
        }
        changes[layer * each + config.nHeads()][pair] = mlps[row];
      }
    }
    return changes;
  }

  /** From dx after a block to dx between its attention and its MLP. */
  private void mlp(int layer) {
    Buffer change = activations.difference(new Site(Site.Kind.MLP_OUT, layer));
    kernels.dot(ofMlps.slice(4L * layer * n), dx, change, n, 1, config.dModel());
    put(Site.Kind.PRE, layer, cells[0]);
    put(Site.Kind.PRE_LINEAR, layer, cells[1]);
    backward.neurons(layer, backward.factor(dx, n), gateUp, post, n);
    Layer w = model.weights().layer(layer);
    Buffer x = activations.reference(new Site(Site.Kind.RESID_MID, layer));
    backward.projections(dx, gateUp(), w.gateUp(), x, w.ln2(), n);
  }

  private Matrix gateUp() {
    return new Matrix(gateUp, type, 2L * config.dMlp());
  }

  private void put(Site.Kind kind, int layer, Buffer where) {
    Buffer values = activations.reference(new Site(kind, layer));
    kernels.put(gateUp(), values, where, n, config.dMlp(), false);
  }

  /** Past the frozen attention dx is what it was. */
  private void heads(int layer) {
    device.multiply(
        n,
        zWidth(),
        config.dModel(),
        backward.factor(dx, n),
        model.weights().layer(layer).o().matrix().transpose(),
        new Matrix(dz, DType.F32, zWidth()));
    Buffer change = activations.difference(new Site(Site.Kind.Z, layer));
    Buffer to = ofHeads.slice(4L * layer * n * config.nHeads());
    kernels.dot(to, dz, change, n, config.nHeads(), config.dHead());
  }
}
