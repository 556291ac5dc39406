package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.files.BadFileException;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.Fingerprint;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.function.IntConsumer;
import java.util.function.Predicate;
import java.util.stream.IntStream;

/**
 * The forward pass of Llama, Mistral, Qwen2 and Qwen3 over a ragged batch. The residual stream,
 * norms, softmax and logits are f32; what passes between kernels has the activations' type.
 *
 * <p>A row's result depends on its own sequence alone, as far as the device's products do (see
 * {@link Device#multiply}).
 */
public final class Llama implements AutoCloseable {
  private static final int BLOCK = 256;

  /** Sites of a block whose rows go on alone, each by itself. */
  private static final List<Site.Kind> AFTER_ATTENTION =
      List.of(
          Site.Kind.ATTN_OUT,
          Site.Kind.RESID_MID,
          Site.Kind.LN2_SCALE,
          Site.Kind.LN2_NORMALIZED,
          Site.Kind.PRE,
          Site.Kind.PRE_LINEAR,
          Site.Kind.POST,
          Site.Kind.MLP_OUT,
          Site.Kind.RESID_POST);

  private final Device device;
  private final Scope scope; // all that is on the device
  private final ModelConfig config;
  private final DType type;
  private final Limits limits;
  private final Checkpoint checkpoint;
  private final LlamaWeights weights;
  private final KvCache cache;
  private final LowerLayers lower;
  private final Attention attention;
  private final Positionwise positionwise;

  // Scratch, by what it holds; rows = limits.rows.
  private final Buffer x; // [rows, d_model] f32: the residual stream
  private final Buffer qkv; // [rows, (n_heads + 2 n_kv_heads) d_head] T
  private final Buffer z; // [rows, n_heads d_head] T
  private final Buffer last; // [outputs, d_model] f32
  private final Buffer logits; // [outputs, vocabulary] f32
  private final Positionwise.Norms norms; // for a hook that wants them

  private final StepTables step;
  private Buffer changes; // [rows, report stride] f32: what steering changed
  private Edits edits = Edits.NONE;
  private final StepGraphs graphs;
  private String fingerprint; // once it has been asked for

  private final Kernel embed;
  private final Kernel gather;

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
    this(device, config, checkpoint, type, limits, layers -> {});
  }

  /** As above; {@code progress} hears the number of layers whose weights are there. */
  public Llama(
      Device device,
      ModelConfig config,
      Checkpoint checkpoint,
      DType type,
      Limits limits,
      IntConsumer progress) {
    this(device, config, checkpoint, type, limits, tensor -> false, progress);
  }

  private Llama(
      Device device,
      ModelConfig config,
      Checkpoint checkpoint,
      DType type,
      Limits limits,
      Predicate<String> writable,
      IntConsumer progress) {
    this.device = device;
    this.config = config;
    this.type = type;
    this.limits = limits;
    this.checkpoint = checkpoint;
    this.scope = device.scope();
    try {
      AttentionCheck.run(device, config, type);
      this.weights = new LlamaWeights(scope, checkpoint, config, type, writable, progress);
      this.cache =
          new KvCache(scope, config, type, limits.pages, limits.sequences, limits.maxTokens);
      this.attention = new Attention(scope, config, type, limits);
      FewRowsCheck.run(device, config, weights, type);
      this.positionwise = new Positionwise(scope, config, weights, type, limits.rows);
      this.x = floats(limits.rows, config.dModel());
      this.lower = new LowerLayers(scope, cache, config, limits, x);
      this.qkv = activations(qkvWidth());
      this.z = activations(config.nHeads() * config.dHead());
      this.last = floats(limits.outputs, config.dModel());
      this.logits = floats(limits.outputs, config.vocabularySize());
      this.norms =
          new Positionwise.Norms(floats(limits.rows, 1), floats(limits.rows, config.dModel()));
      this.step = new StepTables(scope, limits);
      this.changes = floats(limits.rows, 1);
      this.graphs = scope.add(new StepGraphs(device)); // they hold all the others' addresses
      String tableType = "_" + weights.embedding().type().name().toLowerCase(Locale.ROOT);
      this.embed = device.kernel("embed" + tableType);
      this.gather = device.kernel("gather_rows");
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /**
   * Loads a model folder.
   *
   * @param type activations: f32 or bf16
   * @throws dev.halter.files.BadFileException if the folder holds no model that Halter runs
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit
   */
  public static Llama load(Path folder, Device device, DType type, Limits limits) {
    return load(folder, device, type, limits, tensor -> false);
  }

  /**
   * As above, with weights that change: no file does.
   *
   * @param writable names of the tensors that may be written; on the CPU they are then copies, with
   *     those that share their input, where all others are the mapped file
   */
  public static Llama load(
      Path folder, Device device, DType type, Limits limits, Predicate<String> writable) {
    ModelConfig config = ModelConfig.read(folder);
    Checkpoint checkpoint = Checkpoint.open(folder);
    try {
      checkpoint.require(config);
      return new Llama(device, config, checkpoint, type, limits, writable, layers -> {});
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

  /** What the lower layers of prompts made, for plans that begin to act above. */
  public LowerLayers lower() {
    return lower;
  }

  public LlamaWeights weights() {
    return weights;
  }

  /** What its rows go through, with the buffers of a step, which are free between steps. */
  public Positionwise positionwise() {
    return positionwise;
  }

  /** What tells this model from others, see {@link Fingerprint}. */
  public String fingerprint() {
    if (fingerprint == null) {
      fingerprint = Fingerprint.of(config, checkpoint);
    }
    return fingerprint;
  }

  /**
   * Runs one step: the batch's tokens are appended to their sequences.
   *
   * @param steering tables of the batch's slots; null if every slot is 0
   * @return logits [batch.outputs(), vocabulary] f32, valid until the next step
   */
  public Buffer forward(Batch batch, SteeringTable steering) {
    return forward(batch, steering, null);
  }

  /**
   * Runs one step that {@code hook} looks at.
   *
   * @param steering tables of the batch's slots; null if every slot is 0
   * @param hook may be null
   * @return as {@link #forward(Batch, SteeringTable)}
   */
  public Buffer forward(Batch batch, SteeringTable steering, SiteHook hook) {
    return forward(batch, steering, hook, Tail.NONE);
  }

  /** As above, with what follows the logits in the same step. */
  public Buffer forward(Batch batch, SteeringTable steering, SiteHook hook, Tail tail) {
    require(batch);
    int stride = steering == null ? 1 : steering.reportStride();
    if (changes.bytes() < 4L * limits.rows * stride) {
      Buffer larger = floats(limits.rows, stride); // before the other goes: it may not fit
      graphs.close(); // they hold the other's address
      changes.close();
      changes = larger;
    }
    Attention.Work.Shape tiles = upload(batch, hook, tail.table());
    cache.pageTable();
    if (steering != null) {
      changes.slice(0, 4L * batch.rows() * stride).clear();
    }
    Runnable work =
        () -> {
          run(batch, tiles, steering, hook, batch.firstLayer(), config.nLayers());
          tail.queue(logits, step.tail());
        };
    if (hook == null && batch.isDecode()) {
      boolean solves = steering != null && steering.solves(batch);
      graphs.run(batch.rows(), tiles, steering, solves, tail.shape(), step.tail(), work);
    } else {
      work.run();
    }
    requireWhole();
    return logits;
  }

  private Attention.Work.Shape upload(Batch batch, SiteHook hook, MemorySegment tail) {
    boolean wantsLogSums =
        hook != null
            && IntStream.range(0, config.nLayers()).anyMatch(layer -> hook.logSums(layer) != null);
    return step.upload(batch, attention, cache, !wantsLogSums, tail);
  }

  /**
   * Runs a step without steering on which {@code hook} acts, from a block on.
   *
   * @param firstLayer first block to run; from 1 on, the hook must write every row of that block's
   *     {@code hook_resid_pre}, and the blocks before it leave no keys and values
   * @return as {@link #forward(Batch, SteeringTable)}
   */
  public Buffer forward(Batch batch, SiteHook hook, int firstLayer) {
    forward(batch, hook, firstLayer, config.nLayers());
    return logits;
  }

  /**
   * Runs a part of a step without steering.
   *
   * @param firstLayer as above
   * @param endLayer after the last block to run; there are logits only after all blocks
   */
  public void forward(Batch batch, SiteHook hook, int firstLayer, int endLayer) {
    require(batch);
    Attention.Work.Shape tiles = upload(batch, hook, MemorySegment.NULL);
    cache.pageTable();
    run(batch, tiles, null, hook, firstLayer, endLayer);
    requireWhole();
  }

  /**
   * Checks that what has been computed so far is of the weights that were in the files: the CPU
   * reads them where they are mapped. Steps do so themselves, and so does whoever uses the weights
   * beside them before results are used.
   *
   * @throws BadFileException if a file of the model got shorter
   */
  public void requireWhole() {
    if (device.sharesHostMemory()) {
      checkpoint.requireWhole();
    }
  }

  private void require(Batch batch) {
    if (batch.rows() < 1 || batch.rows() > limits.rows || batch.outputs() > limits.outputs) {
      throw new IllegalArgumentException(
          "a step of %d tokens with %d rows of logits; limits are %d and %d"
              .formatted(batch.rows(), batch.outputs(), limits.rows, limits.outputs));
    }
  }

  /**
   * Squared norms of what steering changed in the step just run, f32 [rows,
   * steering.reportStride()]; {@link SteeringTable#places} says which are whose. Valid until the
   * next step.
   */
  public Buffer changes() {
    return changes;
  }

  /** What kernels know of the step that ran last. */
  StepTables step() {
    return step;
  }

  /** Forgets recorded steps that use these tables; call it before closing them. */
  public void forget(SteeringTable steering) {
    graphs.forget(steering);
  }

  private void run(
      Batch batch,
      Attention.Work.Shape tiles,
      SteeringTable steering,
      SiteHook hook,
      int firstLayer,
      int endLayer) {
    Steps steps = new Steps(batch, tiles, steering, hook);
    if (firstLayer == 0) {
      steps.embed();
    }
    boolean normed = false; // whether the norm of x that the next branch reads is there
    for (int layer = firstLayer; layer < endLayer; layer++) {
      for (Batch.Kept kept : batch.kept(layer)) {
        kept.to().copyFrom(rowsOf(x, kept.firstRow(), kept.rows()));
      }
      FewRows.Input in = normed ? positionwise.normed() : steps.firstInput(layer);
      boolean last = layer + 1 == config.nLayers();
      steps.attention(layer, weights.layer(layer), in);
      if (last && steps.onlyOutputsGoOn(layer)) {
        steps.finish(layer, weights.layer(layer));
        return;
      }
      normed = steps.project(layer, weights.layer(layer));
      in =
          normed
              ? positionwise.normed()
              : positionwise.input(positionwise.ln2(layer), x, steps.pass);
      // What is kept is x before the next norm makes its edits.
      boolean alone = last || !batch.kept(layer + 1).isEmpty();
      RowKernels.Norm next = alone ? null : positionwise.ln1(layer + 1);
      normed = positionwise.mlp(layer, in, x, steps.pass, next);
    }
    if (endLayer == config.nLayers()) {
      steps.logits();
    }
  }

  /** The edits of a table, packed anew only when they are others than in the step before. */
  private Edits edits(SteeringTable table) {
    if (!edits.isOf(table) || edits.steering().fields().changes() != changes) {
      edits = new Edits(table, step.slots, changes);
    }
    return edits;
  }

  /** One pass over a batch, site by site. */
  private final class Steps implements Positionwise.Observer {
    private final Batch batch;
    private final int rows;
    private final Attention.Work.Shape tiles;
    private final Edits edits;
    private final SiteHook hook;
    private final Positionwise.Norms kept; // null if nobody wants the norms' insides
    private final Positionwise.Pass pass;
    private final boolean solves;

    Steps(Batch batch, Attention.Work.Shape tiles, SteeringTable steering, SiteHook hook) {
      this.batch = batch;
      this.rows = batch.rows();
      this.tiles = tiles;
      this.edits = edits(steering);
      this.hook = hook;
      this.kept = wantsNorms() ? norms : null;
      this.pass = new Positionwise.Pass(rows, batch.isDecode(), edits, kept, this);
      this.solves = steering != null && steering.solves(batch);
    }

    void embed() {
      device.launch(
          embed,
          (long) rows * config.dModel() * (weights.embedding().type().bytes() + 4),
          Grid.of(rows),
          BLOCK,
          0,
          x,
          weights.embedding().weight(),
          step.tokens,
          config.dModel(),
          edits.ranges(Site.Kind.EMBED, -1),
          edits.steering());
      at(Site.Kind.EMBED, -1, x, DType.F32, config.dModel(), 0);
    }

    private boolean wantsNorms() {
      return hook != null
          && Site.all(config).stream().anyMatch(site -> site.kind().isNorm() && hook.wants(site));
    }

    private boolean wants(Site.Kind kind, int layer) {
      return hook != null && hook.wants(new Site(kind, layer));
    }

    FewRows.Input firstInput(int layer) {
      // The norm makes the edits of hook_resid_pre: queued ones come before it, and so does a hook
      // where there are no others, so that it may overwrite the site.
      queued(Site.Kind.RESID_PRE, layer);
      boolean normEdits = edits.ranges(Site.Kind.RESID_PRE, layer) != null;
      if (!normEdits) {
        show(Site.Kind.RESID_PRE, layer, x, DType.F32, config.dModel(), 0);
      }
      FewRows.Input in = positionwise.input(positionwise.ln1(layer), x, pass);
      if (normEdits) {
        show(Site.Kind.RESID_PRE, layer, x, DType.F32, config.dModel(), 0);
      }
      showNorm(Site.Kind.LN1_SCALE, Site.Kind.LN1_NORMALIZED, layer);
      return in;
    }

    /** From {@code ln1} of x to z. */
    void attention(int layer, Layer w, FewRows.Input in) {
      int heads = config.nHeads() * config.dHead();
      int kv = config.nKvHeads() * config.dHead();
      int width = qkvWidth();
      FewRows few = positionwise.fewRows(pass);
      boolean looksBetween =
          acts(Site.Kind.Q, layer) || acts(Site.Kind.K, layer) || acts(Site.Kind.V, layer);
      if (few != null && w.qNorm() == null && !looksBetween) {
        Buffer frequencies = attention.inverseFrequencies();
        Linear all = w.qkv().getFirst();
        few.rope(qkv, in, all, w.qkvBias(), frequencies, step, cache, layer, rows);
      } else {
        positionwise.product(in, w.qkv(), qkv, width, pass);
        Attention.HeadChanges changes =
            new Attention.HeadChanges(w.qkvBias(), w.qNorm(), w.kNorm());
        if (looksBetween) {
          attention.biasAndNorm(qkv, rows, changes);
          changes = Attention.HeadChanges.NONE;
        }
        at(Site.Kind.Q, layer, qkv, type, width, 0);
        at(Site.Kind.K, layer, qkv, type, width, heads);
        at(Site.Kind.V, layer, qkv, type, width, heads + kv);
        attention.rotateAndAppend(qkv, rows, changes, step, cache, layer);
      }
      at(Site.Kind.ROT_Q, layer, qkv, type, width, 0);
      at(Site.Kind.ROT_K, layer, qkv, type, width, heads);
      if (wants(Site.Kind.PATTERN, layer)) {
        hook.atPattern(
            new Site(Site.Kind.PATTERN, layer),
            (out, span, from) -> attention.pattern(out, qkv, span, from, cache, layer));
      }
      Buffer logSum = hook == null ? null : hook.logSums(layer);
      attention.attend(z, logSum, qkv, tiles, step, cache, layer, edits);
      at(Site.Kind.Z, layer, z, type, heads, 0);
    }

    /** Adds what attention says to x; returns whether the MLP's norm of x is made as well. */
    boolean project(int layer, Layer w) {
      return positionwise.project(
          z,
          w.o(),
          w.oBias(),
          x,
          Site.Kind.ATTN_OUT,
          Site.Kind.RESID_MID,
          layer,
          pass,
          positionwise.ln2(layer));
    }

    /**
     * Whether after a block's attention nobody looks at other rows than those with logits, nor
     * steers any: keys and values are all there by then.
     */
    boolean onlyOutputsGoOn(int layer) {
      return batch.outputs() < rows
          && AFTER_ATTENTION.stream()
              .noneMatch(kind -> acts(kind, layer) || edits.ranges(kind, layer) != null)
          && !wants(Site.Kind.LN_FINAL_SCALE, -1)
          && !wants(Site.Kind.LN_FINAL_NORMALIZED, -1);
    }

    /** The rest of the last block, and the logits, for the rows that have some. */
    void finish(int layer, Layer w) {
      int outputs = batch.outputs();
      if (outputs == 0) {
        return;
      }
      int heads = config.nHeads() * config.dHead();
      int words = heads * type.bytes() / 4; // exactly as they are, two of bf16 at once
      Buffer zLast = qkv; // which has been read
      Positionwise.Pass plain = Positionwise.Pass.plain(outputs);
      gatherOutputs(zLast, z, words);
      gatherOutputs(last, x, config.dModel());
      RowKernels.Norm ln2 = positionwise.ln2(layer);
      boolean normed =
          positionwise.project(
              zLast,
              w.o(),
              w.oBias(),
              last,
              Site.Kind.ATTN_OUT,
              Site.Kind.RESID_MID,
              layer,
              plain,
              ln2);
      FewRows.Input in = normed ? positionwise.normed() : positionwise.input(ln2, last, plain);
      positionwise.mlp(layer, in, last, plain, null);
      head(outputs);
    }

    private void gatherOutputs(Buffer to, Buffer from, int words) {
      int outputs = batch.outputs();
      device.launch(
          gather,
          8L * outputs * words,
          Grid.of(outputs),
          BLOCK,
          0,
          to,
          from,
          step.outputRows,
          words);
    }

    void logits() {
      if (wants(Site.Kind.LN_FINAL_SCALE, -1) || wants(Site.Kind.LN_FINAL_NORMALIZED, -1)) {
        positionwise.norm(positionwise.finalNorm(), x, pass);
        showNorm(Site.Kind.LN_FINAL_SCALE, Site.Kind.LN_FINAL_NORMALIZED, -1);
      }
      int outputs = batch.outputs();
      if (outputs == 0) {
        return;
      }
      gatherOutputs(last, x, config.dModel());
      head(outputs);
    }

    /** The logits of {@code last}. */
    private void head(int outputs) {
      Linear head = weights.head();
      device.multiply(
          outputs,
          head.out(),
          head.in(),
          positionwise.finalNorm(last, outputs),
          head.matrix(),
          new Matrix(logits, DType.F32, config.vocabularySize()));
      show(Site.Kind.LOGITS, -1, logits, DType.F32, config.vocabularySize(), 0);
    }

    @Override
    public boolean acts(Site.Kind kind, int layer) {
      return !edits.queued(kind, layer).isEmpty() || wants(kind, layer);
    }

    @Override
    public void at(Site.Kind kind, int layer, Buffer values, DType dtype, int stride, int column) {
      if (kind == Site.Kind.RESID_POST) {
        queued(kind, layer);
      }
      show(kind, layer, values, dtype, stride, column);
    }

    private void queued(Site.Kind kind, int layer) {
      List<QueuedEdit> queued = edits.queued(kind, layer);
      if (queued.isEmpty()) {
        return;
      }
      Steering steering = edits.steering().fields();
      QueuedEdit.Rows every =
          new QueuedEdit.Rows(
              x,
              rows,
              config.dModel(),
              steering.slots(),
              step.sequences,
              steering.changes(),
              steering.stride(),
              solves);
      queued.forEach(edit -> edit.enqueue(every));
    }

    private void show(
        Site.Kind kind, int layer, Buffer values, DType dtype, int stride, int column) {
      if (hook != null) {
        Site site = new Site(kind, layer);
        if (hook.wants(site)) {
          hook.at(site, new Matrix(values.slice((long) column * dtype.bytes()), dtype, stride));
        }
      }
    }

    private void showNorm(Site.Kind scale, Site.Kind normalized, int layer) {
      if (kept != null) {
        show(scale, layer, kept.scale(), DType.F32, 1, 0);
        show(normalized, layer, kept.normalized(), DType.F32, config.dModel(), 0);
      }
    }
  }

  private Buffer rowsOf(Buffer rows, int first, int count) {
    long bytes = 4L * config.dModel();
    return rows.slice(first * bytes, count * bytes);
  }

  private int qkvWidth() {
    return (config.nHeads() + 2 * config.nKvHeads()) * config.dHead();
  }

  private Buffer floats(int rows, int columns) {
    return scope.allocate(4L * rows * columns);
  }

  private Buffer activations(int columns) {
    return scope.allocate((long) type.bytes() * limits.rows * columns);
  }

  @Override
  public void close() {
    scope.close();
    checkpoint.close();
  }
}
