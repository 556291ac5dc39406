package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.gradients.AttentionBackward;
import dev.halter.gradients.BackwardKernels;
import dev.halter.gradients.BackwardKernels.Heads;
import dev.halter.gradients.PositionwiseBackward;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames.Block;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The gradient of a loss in what a {@link Selection} tunes, and in nothing else: no other weight
 * gets one, and the pass ends at the lowest tuned layer, below which nothing is kept. Gradients of
 * weights and of the residual stream are f32, those of other activations of their type, T; every
 * sum is f32.
 *
 * <p>The forward pass is {@link Llama}'s own, and a {@link Tape} keeps of it what the gradients
 * need. Examples lie end to end in one ragged batch; each sees only itself, so a batch's gradients
 * are the sum of its examples'. Sums have a fixed order: the same examples give the same bits.
 */
final class BackwardPass {
  /** Rows whose logits exist at once. */
  private static final int LOGITS = 256;

  private final Device device;
  private final Llama model;
  private final ModelConfig config;
  private final DType type;
  private final Selection selection;
  private final int lowest;
  private final int endOfRecomputed; // layers from the lowest up to here are made again
  private final PrefixCache prefixes; // or null
  private final float eps;
  private final Heads heads;
  private final Positionwise positionwise;
  private final BackwardKernels kernels;
  private final PositionwiseBackward backward;
  private final AttentionBackward attention;
  private final Kernel gather;
  private final Tape tape;
  private final SteeredHeads steered;
  private final Map<Tuned, Buffer> gradients = new HashMap<>();

  private final Buffer inverseFrequencies; // [d_head / 2]
  private final Buffer positions; // [rows]
  private final Buffer targets; // [rows] tokens to predict
  private final Buffer targetRows; // [rows] where they are predicted
  private final Buffer losses; // [rows]
  private final Buffer hits; // [rows] int: whether the target is the likeliest
  private final Buffer last; // [LOGITS, d_model]: rows of the residual stream that predict
  private final Buffer logits; // [LOGITS, vocabulary], then their gradient
  private final Buffer dx; // [rows, d_model]: the residual stream's gradient
  private final Buffer dqkv; // [rows, width]
  private final Buffer dz; // [rows, n_heads d_head] T
  private final Buffer post; // [rows, d_mlp] T: hook_post's gradient, then hook_post
  private final Buffer narrowLogits; // the logits' gradient in T; null where T is f32
  private final Buffer narrowQkv; // dqkv in T, likewise
  private final Buffer added; // [largest slice]: a gradient that is added to an earlier one
  private int rows; // of the batch
  private boolean more; // whether there are earlier ones

  /** As below, with all that gradients need kept and nothing known of a text before. */
  BackwardPass(Scope scope, Llama model, Selection selection) {
    this(scope, model, selection, 0, null);
  }

  /**
   * Prepares for batches of up to {@code model.limits().rows()} tokens.
   *
   * @param scope that its buffers live in
   * @param recomputed of the layers that have gradients so many, from the lowest on, keep only what
   *     comes into them; the backward pass makes the rest again. The gradients are the same.
   * @param prefixes what is known of examples below the lowest tuned layer, or null
   */
  BackwardPass(
      Scope scope, Llama model, Selection selection, int recomputed, PrefixCache prefixes) {
    this.device = scope.device();
    this.model = model;
    this.config = model.config();
    this.type = model.type();
    this.selection = selection;
    this.lowest = selection.lowestLayer();
    this.endOfRecomputed = lowest + recomputed;
    this.prefixes = prefixes;
    this.eps = (float) config.rmsNormEps();
    this.heads = new Heads(config.nHeads(), config.nKvHeads(), config.dHead());
    this.positionwise = model.positionwise();
    this.kernels = new BackwardKernels(device, type);
    int most = model.limits().rows();
    this.backward = new PositionwiseBackward(scope, model, kernels, Math.max(most, LOGITS));
    this.attention = new AttentionBackward(scope, heads, type, most);
    this.gather = device.kernel("gather_rows");
    this.tape = tape(scope, most);
    this.steered = new SteeredHeads(scope, selection, type, zWidth(), most);
    for (Tuned tuned : selection.all()) {
      gradients.put(tuned, scope.allocate(4 * tuned.elements()));
    }
    this.inverseFrequencies = scope.of(config.inverseFrequencies());
    this.positions = scope.allocate(4L * most);
    this.targets = scope.allocate(4L * most);
    this.targetRows = scope.allocate(4L * most);
    this.losses = scope.allocate(4L * most);
    this.hits = scope.allocate(4L * most);
    this.last = scope.allocate(4L * LOGITS * config.dModel());
    this.logits = scope.allocate(4L * LOGITS * config.vocabularySize());
    this.dx = scope.allocate(4L * most * config.dModel());
    this.dqkv = scope.allocate(4L * most * heads.width());
    this.dz = activations(scope, most, zWidth());
    this.post = activations(scope, most, config.dMlp());
    boolean isNarrow = type != DType.F32;
    this.narrowLogits = isNarrow ? activations(scope, LOGITS, config.vocabularySize()) : null;
    this.narrowQkv = isNarrow ? activations(scope, most, heads.width()) : null;
    this.added =
        scope.allocate(4 * selection.all().stream().mapToLong(Tuned::elements).max().orElseThrow());
  }

  private Buffer activations(Scope scope, int count, int width) {
    return scope.allocate((long) type.bytes() * count * width);
  }

  private Tape tape(Scope scope, int most) {
    Tape keeps = new Tape(scope, most);
    for (int layer = lowest; layer < config.nLayers(); layer++) {
      boolean again = layer < endOfRecomputed;
      Keeping keep = again ? keeps::share : keeps::keep;
      boolean isBegin = prefixes != null && layer == lowest;
      if (again || isBegin || reachesQueries(layer)) {
        keeps.keep(Site.Kind.RESID_PRE, layer, DType.F32, config.dModel());
      }
      if (reachesAttention(layer)) {
        keep.site(Site.Kind.Z, layer, type, zWidth());
      }
      if (reachesQueries(layer)) {
        keep.site(Site.Kind.ROT_Q, layer, type, heads.width());
        keeps.keepLogSums(layer, config.nHeads(), again);
      }
      keep.site(Site.Kind.RESID_MID, layer, DType.F32, config.dModel());
      keep.site(Site.Kind.PRE, layer, type, 2 * config.dMlp());
    }
    keeps.keep(Site.Kind.RESID_POST, config.nLayers() - 1, DType.F32, config.dModel());
    return keeps;
  }

  /** {@link Tape#keep} or {@link Tape#share}. */
  private interface Keeping {
    void site(Site.Kind kind, int layer, DType type, int width);
  }

  /** Bytes of what a forward pass leaves for the backward pass. */
  long keptBytes() {
    return tape.bytes();
  }

  /** Whether there are gradients to make of a layer's attention: in the lowest only for itself. */
  private boolean reachesAttention(int layer) {
    return reachesZ(layer) || selection.tunes(layer, Block.O);
  }

  /** Whether z itself has a gradient: in the lowest not where only o_proj is tuned. */
  private boolean reachesZ(int layer) {
    return reachesQueries(layer) || selection.vectors(layer).isPresent();
  }

  /** Whether they go on past z. */
  private boolean reachesQueries(int layer) {
    return layer > lowest || selection.tunes(layer, Block.Q, Block.K, Block.V);
  }

  private int zWidth() {
    return config.nHeads() * config.dHead();
  }

  /** The gradient that the last {@link #run} made, [rows, columns] of what is tuned. */
  Buffer gradient(Tuned tuned) {
    return gradients.get(tuned);
  }

  /** The values of heads' vectors, as {@link #run} uses them; they may be written. */
  Buffer values(HeadVectors vectors) {
    return steered.values(vectors);
  }

  /**
   * Makes the gradients of {@code Σ loss / divisor}, where the sum runs over the tokens of all
   * completions.
   *
   * @param examples at most {@code model.limits().rows()} rows in all
   * @param divisor the tokens of the completions of all batches of a step, for their mean
   * @param more whether to add to the gradients that are there: of earlier batches of the step
   * @return the sum of the losses in nats, not divided
   */
  double run(List<Example> examples, int divisor, boolean more) {
    this.more = more;
    begin(examples);
    if (prefixes != null) {
      below(examples);
    }
    try (Sequences sequences = new Sequences(examples)) {
      forward(sequences.batch, prefixes == null ? 0 : lowest, config.nLayers());
      return backward(sequences.batch, examples, divisor);
    }
  }

  private double backward(Batch batch, List<Example> examples, int divisor) {
    dx.slice(0, 4L * rows * config.dModel()).clear();
    int count = targets(examples);
    for (int from = 0; from < count; from += LOGITS) {
      int chunk = Math.min(LOGITS, count - from);
      loss(from, chunk, 1f / divisor);
      lossBackward(from, chunk);
    }
    for (int layer = config.nLayers() - 1; layer >= lowest; layer--) {
      if (layer < endOfRecomputed - 1) { // of the last of them all is still there
        forward(batch, layer, layer + 1);
      }
      mlp(layer);
      if (reachesAttention(layer)) {
        attention(layer);
      }
    }
    return sum(losses.toFloats(count), 0, count);
  }

  /**
   * How an example is known.
   *
   * @param loss sum over the completion's tokens, in nats
   * @param hits of these the likeliest at their place
   */
  record Known(double loss, int hits) {}

  /** How examples are known, without gradients; their size is limited as for {@link #run}. */
  List<Known> read(List<Example> examples) {
    begin(examples);
    try (Sequences sequences = new Sequences(examples)) {
      forward(sequences.batch, 0, config.nLayers());
    }
    int count = targets(examples);
    for (int from = 0; from < count; from += LOGITS) {
      loss(from, Math.min(LOGITS, count - from), 0);
    }
    float[] loss = losses.toFloats(count);
    int[] hit = hits.toInts(count);
    List<Known> known = new ArrayList<>();
    int from = 0;
    for (Example example : examples) {
      int end = from + example.targets();
      int right = Arrays.stream(hit, from, end).sum();
      known.add(new Known(sum(loss, from, end), right));
      from = end;
    }
    return known;
  }

  private static double sum(float[] values, int from, int end) {
    double sum = 0;
    for (int i = from; i < end; i++) {
      sum += values[i];
    }
    return sum;
  }

  private void begin(List<Example> examples) {
    rows = examples.stream().mapToInt(Example::rows).sum();
    tape.begin(rows);
    attention.prepare(examples.stream().mapToInt(Example::rows).toArray());
  }

  /** Examples as a batch; their keys and values stay until this is closed. */
  private final class Sequences implements AutoCloseable {
    final Batch batch = new Batch();

    Sequences(List<Example> examples) {
      try {
        for (Example example : examples) {
          int[] tokens = Arrays.copyOf(example.tokens(), example.rows());
          int sequence = model.cache().open();
          batch.add(sequence, 0, tokens, new int[tokens.length], tokens.length);
          if (!model.cache().reserve(sequence, tokens.length)) {
            throw new IllegalArgumentException("the cache has too few pages for these examples");
          }
        }
      } catch (RuntimeException | Error e) {
        close();
        throw e;
      }
    }

    @Override
    public void close() {
      batch.spans().forEach(span -> model.cache().release(span.sequence()));
    }
  }

  /**
   * Runs blocks forward; from the second on, from what the tape has of the first one's input. Keeps
   * what passes, then lets the vectors of heads act.
   */
  private void forward(Batch batch, int firstLayer, int endLayer) {
    Site begin = firstLayer == 0 ? null : new Site(Site.Kind.RESID_PRE, firstLayer);
    SiteHook hook =
        new SiteHook() {
          @Override
          public boolean wants(Site site) {
            return tape.wants(site);
          }

          @Override
          public void at(Site site, Matrix values) {
            if (site.equals(begin)) {
              values.buffer().copyFrom(residual(firstLayer, 0, rows));
              return;
            }
            tape.at(site, values);
            if (site.kind() == Site.Kind.Z) {
              steered.apply(site.layer(), values.buffer(), rows);
            }
          }

          @Override
          public Buffer logSums(int layer) {
            return tape.logSums(layer);
          }
        };
    model.forward(batch, hook, firstLayer, endLayer);
  }

  /** What the tape has of some rows that come into a layer. */
  private Buffer residual(int layer, int from, int count) {
    long row = 4L * config.dModel();
    return tape.of(Site.Kind.RESID_PRE, layer).slice(from * row, count * row);
  }

  /** Fills in what comes into the lowest tuned layer; only what is not known is made. */
  private void below(List<Example> examples) {
    List<Example> unknown = new ArrayList<>();
    List<Buffer> places = new ArrayList<>();
    int first = 0;
    for (Example example : examples) {
      Buffer place = residual(lowest, first, example.rows());
      if (!prefixes.read(example, place)) {
        unknown.add(example);
        places.add(place);
      }
      first += example.rows();
    }
    if (unknown.isEmpty()) {
      return;
    }
    SiteHook hook =
        new SiteHook() {
          @Override
          public boolean wants(Site site) {
            return site.equals(new Site(Site.Kind.RESID_POST, lowest - 1));
          }

          @Override
          public void at(Site site, Matrix values) {
            long at = 0;
            for (Buffer place : places) {
              place.copyFrom(values.buffer().slice(at, place.bytes()));
              at += place.bytes();
            }
          }
        };
    try (Sequences sequences = new Sequences(unknown)) {
      model.forward(sequences.batch, hook, 0, lowest);
    }
    for (int i = 0; i < unknown.size(); i++) {
      prefixes.write(unknown.get(i), places.get(i));
    }
  }

  /** Sets up what is predicted where; returns how many predictions there are. */
  private int targets(List<Example> examples) {
    int[] position = new int[rows];
    int count = examples.stream().mapToInt(Example::targets).sum();
    int[] target = new int[count];
    int[] targetRow = new int[count];
    int first = 0;
    int at = 0;
    for (Example example : examples) {
      for (int i = 0; i < example.rows(); i++) {
        position[first + i] = i;
        if (i >= example.prompt() - 1) {
          target[at] = example.tokens()[i + 1];
          targetRow[at++] = first + i;
        }
      }
      first += example.rows();
    }
    positions.set(position);
    targets.set(target);
    targetRows.set(targetRow);
    return count;
  }

  /** Losses of predictions, and the gradient of {@code scale} times their sum in the logits. */
  private void loss(int from, int count, float scale) {
    int d = config.dModel();
    int vocabulary = config.vocabularySize();
    Buffer x = tape.of(Site.Kind.RESID_POST, config.nLayers() - 1);
    Buffer at = targetRows.slice(4L * from, 4L * count);
    device.launch(gather, 8L * count * d, Grid.of(count), 256, 0, last, x, at, d);
    Matrix normed = positionwise.finalNorm(last, count);
    device.multiply(
        count, vocabulary, d, normed, model.weights().head().matrix(), floats(logits, vocabulary));
    kernels.crossEntropy(
        losses.slice(4L * from, 4L * count),
        hits.slice(4L * from, 4L * count),
        logits,
        targets.slice(4L * from, 4L * count),
        count,
        vocabulary,
        scale);
  }

  /** From there to dx at the last block's end. */
  private void lossBackward(int from, int count) {
    Matrix gradient = kernels.factor(narrowLogits, logits, count, config.vocabularySize());
    Buffer x = tape.of(Site.Kind.RESID_POST, config.nLayers() - 1);
    backward.head(dx, gradient, x, targetRows.slice(4L * from, 4L * count), count);
  }

  /** From dx at a block's end to dx between its attention and its MLP. */
  private void mlp(int layer) {
    Layer w = model.weights().layer(layer);
    int f = config.dMlp();
    Buffer x = tape.of(Site.Kind.RESID_MID, layer);
    Buffer gateUp = tape.of(Site.Kind.PRE, layer);
    Matrix out = backward.factor(dx, rows);
    backward.neurons(layer, out, gateUp, post, rows);
    weights(layer, Block.DOWN, out, activations(post, f));
    Matrix gradient = activations(gateUp, 2 * f);
    if (selection.tunes(layer, Block.GATE, Block.UP)) {
      Matrix h = positionwise.mlpInput(layer, x, rows);
      weights(layer, Block.GATE, gradient, h);
      weights(layer, Block.UP, gradient.columnsFrom(f), h);
    }
    if (reachesAttention(layer)) {
      backward.projections(dx, gradient, w.gateUp(), x, w.ln2(), rows);
    }
  }

  /** From there to dx at the block's beginning. */
  private void attention(int layer) {
    Layer w = model.weights().layer(layer);
    Buffer z = tape.of(Site.Kind.Z, layer);
    Matrix out = backward.factor(dx, rows);
    weights(layer, Block.O, out, activations(z, zWidth()));
    if (!reachesZ(layer)) {
      return;
    }
    Matrix o = w.o().matrix().transpose();
    device.multiply(rows, zWidth(), config.dModel(), out, o, activations(dz, zWidth()));
    selection.vectors(layer).ifPresent(vectors -> vectors(vectors, z));
    if (!reachesQueries(layer)) {
      return;
    }
    Buffer x = tape.of(Site.Kind.RESID_PRE, layer);
    Buffer qkv = tape.of(Site.Kind.ROT_Q, layer);
    attention.run(dqkv, qkv, z, dz, tape.logSums(layer), config.slidingWindow(layer));
    kernels.rope(dqkv, inverseFrequencies, positions, rows, heads);
    Matrix h = positionwise.attentionInput(layer, x, rows);
    if (w.qNorm() != null) {
      project(h, w.qkv(), qkv);
      kernels.qkNorm(dqkv, qkv, w.qkvBias(), w.qNorm(), w.kNorm(), eps, rows, heads);
    }
    Matrix gradient = kernels.factor(narrowQkv, dqkv, rows, heads.width());
    int kvWidth = config.nKvHeads() * config.dHead();
    weights(layer, Block.Q, gradient, h);
    weights(layer, Block.K, gradient.columnsFrom(zWidth()), h);
    weights(layer, Block.V, gradient.columnsFrom(zWidth() + kvWidth), h);
    if (layer > lowest) {
      backward.projections(dx, gradient, w.qkv(), x, w.ln1(), rows);
    }
  }

  /** The gradient of a layer's vectors of heads, and from the dz after them to that before. */
  private void vectors(HeadVectors vectors, Buffer z) {
    Buffer gradient = gradients.get(vectors);
    steered.backward(vectors, more ? added : gradient, dz, z, rows);
    if (more) {
      kernels.add(gradient, added, vectors.rows(), vectors.columns());
    }
  }

  /** q, k and v before their norms, made again: the forward pass writes over them. */
  private void project(Matrix h, List<Linear> parts, Buffer qkv) {
    Matrix to = activations(qkv, heads.width());
    for (Linear part : parts) {
      device.multiply(rows, part.out(), part.in(), h, part.matrix(), to);
      to = to.columnsFrom(part.out());
    }
  }

  /**
   * The gradients of a projection's slices.
   *
   * @param out the gradient of its result [rows, outputs]
   * @param in what it multiplies [rows, inputs]
   */
  private void weights(int layer, Block part, Matrix out, Matrix in) {
    for (Slice slice : selection.slices(layer, part)) {
      Buffer gradient = gradients.get(slice);
      Buffer to = more ? added : gradient;
      device.multiply(
          slice.rows(),
          slice.columns(),
          rows,
          out.transpose().from(slice.row()),
          in.transpose().from(slice.column()),
          floats(to, slice.columns()));
      if (more) {
        kernels.add(gradient, added, slice.rows(), slice.columns());
      }
    }
  }

  private Matrix activations(Buffer buffer, int width) {
    return new Matrix(buffer, type, width);
  }

  private static Matrix floats(Buffer buffer, int width) {
    return new Matrix(buffer, DType.F32, width);
  }
}
