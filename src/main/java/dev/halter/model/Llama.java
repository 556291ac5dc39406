package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The forward pass of Llama, Mistral, Qwen2 and Qwen3 over a ragged batch. The residual stream,
 * norms, softmax and logits are f32; what passes between kernels has the activations' type.
 *
 * <p>A row's result depends on its own sequence alone, as far as the device's products do (see
 * {@link Device#multiply}).
 */
public final class Llama implements AutoCloseable {
  private static final int BLOCK = 256;

  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final Limits limits;
  private final Checkpoint checkpoint;
  private final LlamaWeights weights;
  private final KvCache cache;
  private final Attention attention;

  // Scratch, by what it holds; rows = limits.rows.
  private final Buffer x; // [rows, d_model] f32: the residual stream
  private final Buffer h; // [rows, d_model] T: normalised input of a branch
  private final Buffer qkv; // [rows, (n_heads + 2 n_kv_heads) d_head] T
  private final Buffer z; // [rows, n_heads d_head] T
  private final Buffer gateUp; // [rows, 2 d_mlp] T: gate left, up right
  private final Buffer post; // [rows, d_mlp] T
  private final Buffer y; // [rows, d_model] T: what a branch adds
  private final Buffer last; // [outputs, d_model] f32
  private final Buffer logits; // [outputs, vocabulary] f32
  private final Buffer scale; // [rows] f32, for capture
  private final Buffer normalized; // [rows, d_model] f32, for capture

  private final StepTables step;
  private Buffer changes; // [rows, report stride] f32: what steering changed
  private final Map<GraphKey, Graph> graphs = new HashMap<>();

  private final Kernel embed;
  private final Kernel rmsnorm;
  private final Kernel residualAdd;
  private final Kernel gatedMlp;
  private final Kernel gather;

  private record GraphKey(int rows, SteeringTable steering) {}

  /**
   * What a model is loaded for.
   *
   * @param rows most tokens in one step
   * @param outputs most rows of logits in one step
   * @param sequences most sequences at once
   * @param pages pages of the KV cache
   * @param maxTokens longest sequence
   */
  public record Limits(int rows, int outputs, int sequences, int pages, int maxTokens) {}

  /**
   * Puts a model on a device.
   *
   * @param checkpoint one that {@link Checkpoint#require} lets pass; closed with the model
   * @param type activations: f32 or bf16
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit
   */
  public Llama(
      Device device, ModelConfig config, Checkpoint checkpoint, DType type, Limits limits) {
    this.device = device;
    this.config = config;
    this.type = type;
    this.limits = limits;
    this.checkpoint = checkpoint;
    this.weights = new LlamaWeights(device, checkpoint, config, type);
    this.cache =
        new KvCache(device, config, type, limits.pages, limits.sequences, limits.maxTokens);
    this.attention = new Attention(device, config, type);
    this.x = floats(limits.rows, config.dModel());
    this.h = activations(config.dModel());
    this.qkv = activations(qkvWidth());
    this.z = activations(config.nHeads() * config.dHead());
    this.gateUp = activations(2 * config.dMlp());
    this.post = activations(config.dMlp());
    this.y = activations(config.dModel());
    this.last = floats(limits.outputs, config.dModel());
    this.logits = floats(limits.outputs, config.vocabularySize());
    this.scale = floats(limits.rows, 1);
    this.normalized = floats(limits.rows, config.dModel());
    this.step = new StepTables(device, limits);
    this.changes = floats(limits.rows, 1);
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    String tableType = "_" + weights.embedding().type().name().toLowerCase(Locale.ROOT);
    this.embed = device.kernel("embed" + tableType);
    this.rmsnorm = device.kernel("rmsnorm" + suffix);
    this.residualAdd = device.kernel("residual_add" + suffix);
    this.gatedMlp = device.kernel("gated_mlp" + suffix);
    this.gather = device.kernel("gather_rows");
  }

  /**
   * Loads a model folder.
   *
   * @param type activations: f32 or bf16
   * @throws dev.halter.weights.BadFileException if the folder holds no model that Halter runs
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit
   */
  public static Llama load(Path folder, Device device, DType type, Limits limits) {
    ModelConfig config = ModelConfig.read(folder);
    Checkpoint checkpoint = Checkpoint.open(folder);
    try {
      checkpoint.require(config);
      return new Llama(device, config, checkpoint, type, limits);
    } catch (RuntimeException | Error e) {
      checkpoint.close();
      throw e;
    }
  }

  public Device device() {
    return device;
  }

  public ModelConfig config() {
    return config;
  }

  /** Type of the activations. */
  public DType type() {
    return type;
  }

  public Limits limits() {
    return limits;
  }

  public KvCache cache() {
    return cache;
  }

  public LlamaWeights weights() {
    return weights;
  }

  /**
   * Runs one step: the batch's tokens are appended to their sequences.
   *
   * @param steering tables of the batch's slots; null if every slot is 0
   * @return logits [batch.outputs(), vocabulary] f32, valid until the next step
   */
  public Buffer forward(Batch batch, SteeringTable steering) {
    if (batch.rows() < 1 || batch.rows() > limits.rows || batch.outputs() > limits.outputs) {
      throw new IllegalArgumentException(
          "a step of %d tokens with %d rows of logits; limits are %d and %d"
              .formatted(batch.rows(), batch.outputs(), limits.rows, limits.outputs));
    }
    int stride = steering == null ? 1 : steering.reportStride();
    if (changes.bytes() < 4L * limits.rows * stride) {
      closeGraphs(); // they hold its address
      changes.close();
      changes = floats(limits.rows, stride);
    }
    int tiles = step.upload(batch, attention);
    cache.pageTable();
    if (steering != null) {
      changes.slice(0, 4L * batch.rows() * stride).clear();
    }
    if (batch.isDecode()) {
      graphs
          .computeIfAbsent(
              new GraphKey(batch.rows(), steering),
              key -> device.record(() -> run(batch, tiles, steering)))
          .launch();
    } else {
      run(batch, tiles, steering);
    }
    return logits;
  }

  /**
   * Squared norms of what steering changed in the step just run, [rows, steering.reportStride()];
   * {@link SteeringTable#places} says which are whose.
   */
  public float[] changes(Batch batch, SteeringTable steering) {
    return changes.toFloats(batch.rows() * steering.reportStride());
  }

  /** Forgets recorded steps that use these tables; call it before closing them. */
  public void forget(SteeringTable steering) {
    graphs
        .entrySet()
        .removeIf(
            entry -> {
              if (entry.getKey().steering != steering) {
                return false;
              }
              entry.getValue().close();
              return true;
            });
  }

  private void run(Batch batch, int tiles, SteeringTable steering) {
    Steps steps = new Steps(batch, tiles, steering);
    steps.embed();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      steps.attention(layer, weights.layer(layer));
      steps.mlp(layer, weights.layer(layer));
    }
    steps.logits();
  }

  /** One pass over a batch, site by site. */
  private final class Steps {
    private final Batch batch;
    private final int rows;
    private final int tiles;
    private final SteeringTable steering;
    private final boolean captures;

    Steps(Batch batch, int tiles, SteeringTable steering) {
      this.batch = batch;
      this.rows = batch.rows();
      this.tiles = tiles;
      this.steering = steering;
      this.captures = batch.spans().stream().anyMatch(span -> span.capture() != null);
    }

    void embed() {
      launch(
          embed,
          rows,
          x,
          weights.embedding().weight(),
          step.tokens,
          config.dModel(),
          step.slots,
          ranges(Site.Kind.EMBED, -1),
          ops(),
          changes,
          stride());
      capture(Site.Kind.EMBED, -1, x, DType.F32, config.dModel());
    }

    void attention(int layer, Layer w) {
      int heads = config.nHeads() * config.dHead();
      int kv = config.nKvHeads() * config.dHead();
      norm(w.ln1(), h, x, rows, Site.Kind.RESID_PRE, layer);
      capture(Site.Kind.RESID_PRE, layer, x, DType.F32, config.dModel());
      captureNorm(Site.Kind.LN1_SCALE, Site.Kind.LN1_NORMALIZED, layer);
      product(h, config.dModel(), w.qkv(), qkv, qkvWidth());
      attention.biasAndNorm(qkv, rows, w.qkvBias(), w.qNorm(), w.kNorm());
      capture(Site.Kind.Q, layer, qkv, type, qkvWidth(), 0);
      capture(Site.Kind.K, layer, qkv, type, qkvWidth(), heads);
      capture(Site.Kind.V, layer, qkv, type, qkvWidth(), heads + kv);
      attention.rotateAndAppend(qkv, rows, step, cache, layer);
      capture(Site.Kind.ROT_Q, layer, qkv, type, qkvWidth(), 0);
      capture(Site.Kind.ROT_K, layer, qkv, type, qkvWidth(), heads);
      capturePattern(layer);
      attention.attend(
          z, qkv, tiles, step, cache, layer, ranges(Site.Kind.Z, layer), ops(), changes, stride());
      capture(Site.Kind.Z, layer, z, type, heads);
      product(z, heads, List.of(w.o()), y, config.dModel());
      add(w.oBias(), Site.Kind.ATTN_OUT, Site.Kind.RESID_MID, layer);
    }

    void mlp(int layer, Layer w) {
      int f = config.dMlp();
      norm(w.ln2(), h, x, rows, null, layer);
      captureNorm(Site.Kind.LN2_SCALE, Site.Kind.LN2_NORMALIZED, layer);
      product(h, config.dModel(), w.gateUp(), gateUp, 2 * f);
      launch(
          gatedMlp,
          rows,
          post,
          gateUp,
          gateUp.slice((long) f * type.bytes()),
          w.gateBias(),
          w.upBias(),
          f,
          2L * f,
          step.slots,
          ranges(Site.Kind.POST, layer),
          ops(),
          changes,
          stride());
      capture(Site.Kind.PRE, layer, gateUp, type, 2 * f, 0);
      capture(Site.Kind.PRE_LINEAR, layer, gateUp, type, 2 * f, f);
      capture(Site.Kind.POST, layer, post, type, f);
      product(post, f, List.of(w.down()), y, config.dModel());
      add(w.downBias(), Site.Kind.MLP_OUT, Site.Kind.RESID_POST, layer);
    }

    void logits() {
      if (anyCapture(Site.Kind.LN_FINAL_SCALE) || anyCapture(Site.Kind.LN_FINAL_NORMALIZED)) {
        norm(weights.finalNorm(), h, x, rows, null, -1);
        captureNorm(Site.Kind.LN_FINAL_SCALE, Site.Kind.LN_FINAL_NORMALIZED, -1);
      }
      int outputs = batch.outputs();
      if (outputs == 0) {
        return;
      }
      launch(gather, outputs, last, x, step.outputRows, config.dModel());
      norm(weights.finalNorm(), h, last, outputs, null, -1);
      Linear head = weights.head();
      device.multiply(
          outputs,
          head.out(),
          head.in(),
          new Matrix(h, type, config.dModel()),
          head.matrix(),
          new Matrix(logits, DType.F32, config.vocabularySize()));
      for (Batch.Span span : batch.spans()) {
        Site site = new Site(Site.Kind.LOGITS, -1);
        if (span.capture() != null && span.capture().wants(site)) {
          int v = config.vocabularySize();
          int count = span.length() - span.firstOutput();
          float[] values = logits.slice(4L * v * span.firstOutputRow()).toFloats(count * v);
          span.capture().take(site, span.position() + span.firstOutput(), values, v, 0);
        }
      }
    }

    /** out = RMSNorm(in), with the edits of {@code site} (if any) made to in first. */
    private void norm(Buffer gain, Buffer out, Buffer in, int count, Site.Kind site, int layer) {
      launch(
          rmsnorm,
          count,
          out,
          in,
          gain,
          config.dModel(),
          (float) config.rmsNormEps(),
          captures ? scale : null,
          captures ? normalized : null,
          step.slots,
          site == null ? null : ranges(site, layer),
          ops(),
          changes,
          stride());
    }

    /** out[:, part by part] = in · Wᵀ for projections that share their input. */
    private void product(Buffer in, int inWidth, List<Linear> parts, Buffer out, int outWidth) {
      long column = 0;
      for (Linear part : parts) {
        device.multiply(
            rows,
            part.out(),
            part.in(),
            new Matrix(in, type, inWidth),
            part.matrix(),
            new Matrix(out.slice(column * type.bytes()), type, outWidth));
        column += part.out();
      }
    }

    /** x += y + bias, with the edits of both sites. */
    private void add(Buffer bias, Site.Kind branch, Site.Kind residual, int layer) {
      launch(
          residualAdd,
          rows,
          x,
          y,
          bias,
          config.dModel(),
          ranges(branch, layer),
          step.slots,
          ranges(residual, layer),
          ops(),
          changes,
          stride());
      capture(branch, layer, y, type, config.dModel());
      capture(residual, layer, x, DType.F32, config.dModel());
    }

    private Buffer ranges(Site.Kind kind, int layer) {
      return steering == null ? null : steering.ranges(kind, layer);
    }

    private Buffer ops() {
      return steering == null ? null : steering.ops();
    }

    private int stride() {
      return steering == null ? 1 : steering.reportStride();
    }

    private void launch(Kernel kernel, int blocks, Object... arguments) {
      device.launch(kernel, Grid.of(blocks), BLOCK, 0, arguments);
    }

    private boolean anyCapture(Site.Kind kind) {
      Site site = new Site(kind, -1);
      return batch.spans().stream()
          .anyMatch(span -> span.capture() != null && span.capture().wants(site));
    }

    private void captureNorm(Site.Kind scaleSite, Site.Kind normalizedSite, int layer) {
      capture(scaleSite, layer, scale, DType.F32, 1);
      capture(normalizedSite, layer, normalized, DType.F32, config.dModel());
    }

    private void capture(Site.Kind kind, int layer, Buffer from, DType dtype, int stride) {
      capture(kind, layer, from, dtype, stride, 0);
    }

    private void capture(
        Site.Kind kind, int layer, Buffer from, DType dtype, int stride, int column) {
      Site site = null;
      for (Batch.Span span : batch.spans()) {
        if (span.capture() == null) {
          continue;
        }
        site = site == null ? new Site(kind, layer) : site;
        if (span.capture().wants(site)) {
          long at = (long) span.firstRow() * stride * dtype.bytes();
          float[] values = read(from.slice(at), dtype, span.length() * stride);
          span.capture().take(site, span.position(), values, stride, column);
        }
      }
    }

    private void capturePattern(int layer) {
      Site site = null;
      for (Batch.Span span : batch.spans()) {
        if (span.capture() == null) {
          continue;
        }
        site = site == null ? new Site(Site.Kind.PATTERN, layer) : site;
        if (span.capture().wants(site)) {
          int keys = span.position() + span.length();
          float[] pattern = attention.pattern(qkv, span, cache, layer);
          span.capture().takePattern(site, span.position(), pattern, span.length(), keys);
        }
      }
    }
  }

  private static float[] read(Buffer buffer, DType dtype, int count) {
    if (dtype == DType.F32) {
      return buffer.toFloats(count);
    }
    short[] bits = new short[count];
    buffer.copyTo(MemorySegment.ofArray(bits));
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    return values;
  }

  private int qkvWidth() {
    return (config.nHeads() + 2 * config.nKvHeads()) * config.dHead();
  }

  private Buffer floats(int rows, int columns) {
    return device.allocate(4L * rows * columns);
  }

  private Buffer activations(int columns) {
    return device.allocate((long) type.bytes() * limits.rows * columns);
  }

  private void closeGraphs() {
    graphs.values().forEach(Graph::close);
    graphs.clear();
  }

  @Override
  public void close() {
    closeGraphs();
    for (Buffer buffer :
        List.of(x, h, qkv, z, gateUp, post, y, last, logits, scale, normalized, changes)) {
      buffer.close();
    }
    step.close();
    attention.close();
    cache.close();
    weights.close();
    checkpoint.close();
  }
}
