package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Rope;
import java.lang.foreign.MemorySegment;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Random;

/**
 * Kernels at the shapes of one layer of Llama-3.1-8B, each ready to be launched over and over. In
 * this package for the classes that launch: what is timed is what they launch, with the bytes that
 * they tell. Kernels that other packages launch are launched here with their contracts' bytes.
 */
public final class TimedKernels {
  private static final int D_MODEL = 4096;
  private static final int D_MLP = 14_336;
  private static final int HEADS = 32;
  private static final int KV_HEADS = 8;
  private static final int D_HEAD = 128;
  private static final int VOCABULARY = 32_000; // of Llama 2: the table is to fit a small machine

  /** Tokens that a decoding sequence has seen. */
  private static final int CONTEXT = 1024;

  private final Scope scope;
  private final Device device;
  private final DType type;
  private final int rows;

  private TimedKernels(Scope scope, DType type, int rows) {
    this.scope = scope;
    this.device = scope.device();
    this.type = type;
    this.rows = rows;
  }

  /**
   * A kernel, ready.
   *
   * @param scope that its buffers live in
   * @param kernel name without the type
   * @param type of the activations: f32 or bf16
   * @param rows tokens: up to 64 are sequences that decode, more are a prompt
   */
  public static Runnable of(Scope scope, String kernel, DType type, int rows) {
    TimedKernels kernels = new TimedKernels(scope, type, rows);
    return switch (kernel) {
      case "rmsnorm" -> kernels.norm();
      case "add_rmsnorm" -> kernels.addAndNorm();
      case "residual_add" -> kernels.add();
      case "gated_mlp" -> kernels.gatedMlp();
      case "qkv_bias_norm", "rope_append", "attention" -> kernels.attention(kernel);
      case "embed" -> kernels.embed();
      case "gather_rows" -> kernels.gather();
      case "convert" -> kernels.convert();
      case "sample" -> kernels.sample();
      case "top_tokens" -> kernels.topTokens();
      case "neuron_vectors" -> kernels.neuronVectors();
      case "transpose" -> kernels.transpose();
      default -> throw new IllegalArgumentException("no kernel " + kernel);
    };
  }

  private Runnable norm() {
    RowKernels kernels = new RowKernels(device, type);
    RowKernels.Norm norm = new RowKernels.Norm(floats(D_MODEL), 1e-5f, null);
    Buffer x = floats((long) rows * D_MODEL);
    Buffer out = room(rows, D_MODEL);
    return () -> kernels.norm(norm, out, x, rows, D_MODEL, null, Edits.NONE);
  }

  private Runnable add() {
    RowKernels kernels = new RowKernels(device, type);
    Buffer x = floats((long) rows * D_MODEL);
    Buffer y = numbers((long) rows * D_MODEL);
    RowKernels.SteeredAt at = new RowKernels.SteeredAt(Site.Kind.MLP_OUT, 0);
    return () -> kernels.add(x, y, null, rows, D_MODEL, Edits.NONE, at, at);
  }

  private Runnable addAndNorm() {
    RowKernels kernels = new RowKernels(device, type);
    RowKernels.Norm norm = new RowKernels.Norm(floats(D_MODEL), 1e-5f, null);
    Buffer x = floats((long) rows * D_MODEL);
    Buffer y = numbers((long) rows * D_MODEL);
    Buffer out = room(rows, D_MODEL);
    RowKernels.SteeredAt at = new RowKernels.SteeredAt(Site.Kind.MLP_OUT, 0);
    return () -> kernels.addAndNorm(x, y, null, rows, D_MODEL, Edits.NONE, at, at, norm, out);
  }

  private Runnable gatedMlp() {
    RowKernels kernels = new RowKernels(device, type);
    Buffer gateUp = numbers(2L * rows * D_MLP);
    Buffer up = gateUp.slice((long) D_MLP * type.bytes());
    Buffer out = room(rows, D_MLP);
    return () ->
        kernels.gatedMlp(
            out, gateUp, up, null, null, rows, D_MLP, 2L * D_MLP, Edits.NONE, 0);
  }

  private Runnable attention(String kernel) {
    ModelConfig config =
        new ModelConfig(
            ModelConfig.Family.LLAMA,
            D_MODEL,
            1,
            HEADS,
            KV_HEADS,
            D_HEAD,
            D_MLP,
            VOCABULARY,
            1e-5,
            new Rope.Default(500_000),
            1 << 17,
            false,
            false,
            false,
            false,
            false,
            Collections.nCopies(1, 0),
            -1,
            List.of());
    boolean decodes = rows <= 64;
    int sequences = decodes ? rows : 1;
    int tokens = decodes ? CONTEXT : rows;
    int pages = sequences * KvCache.pagesFor(tokens);
    Llama.Limits limits = new Llama.Limits(rows, 1, sequences, pages, tokens);
    Attention attention = new Attention(scope, config, type, limits);
    KvCache cache = new KvCache(scope, config, type, pages, sequences, tokens);
    fill(cache.keys(0), type);
    fill(cache.values(0), type);
    StepTables step = new StepTables(scope, limits);
    Batch batch = new Batch();
    for (int sequence = 0; sequence < sequences; sequence++) {
      int opened = cache.open();
      cache.reserve(opened, tokens);
      int length = decodes ? 1 : rows;
      batch.add(opened, tokens - length, new int[length], new int[length], length);
    }
    Attention.Work.Shape work = step.upload(batch, attention, cache);
    Buffer qkv = numbers((long) rows * (HEADS + 2 * KV_HEADS) * D_HEAD);
    Buffer z = room(rows, HEADS * D_HEAD);
    Buffer bias = floats((HEADS + 2L * KV_HEADS) * D_HEAD);
    Buffer gain = floats(D_HEAD);
    return switch (kernel) {
      case "qkv_bias_norm" -> () -> attention.biasAndNorm(
                qkv, rows, new Attention.HeadChanges(bias, gain, gain));
      case "rope_append" -> () -> attention.rotateAndAppend(qkv, rows, step, cache, 0);
      default -> () -> attention.attend(z, qkv, work, step, cache, 0, Edits.NONE);
    };
  }

  private Runnable embed() {
    Buffer table = numbers((long) VOCABULARY * D_MODEL);
    Buffer tokens = scope.of(new Random(1).ints(rows, 0, VOCABULARY).toArray());
    Buffer x = scope.allocate(4L * rows * D_MODEL);
    return () ->
        launch(
            "embed" + suffix(),
            (long) rows * D_MODEL * (type.bytes() + 4),
            Grid.of(rows),
            256,
            x,
            table,
            tokens,
            D_MODEL,
            null,
            Edits.NONE.steering());
  }

  private Runnable gather() {
    Buffer x = floats((long) rows * D_MODEL);
    Buffer index = scope.of(new Random(1).ints(rows, 0, rows).toArray());
    Buffer out = scope.allocate(4L * rows * D_MODEL);
    long bytes = 8L * rows * D_MODEL;
    return () -> launch("gather_rows", bytes, Grid.of(rows), 256, out, x, index, D_MODEL);
  }

  /** To the other type, of so many rows of weights. */
  private Runnable convert() {
    DType to = type == DType.F32 ? DType.BF16 : DType.F32;
    long elements = (long) rows * D_MODEL;
    Buffer in = numbers(elements);
    Buffer out = scope.allocate(elements * to.bytes());
    String name = ("convert_" + type + "_" + to).toLowerCase(Locale.ROOT);
    Grid grid = Grid.of((int) Math.min(65_535, (elements + 1023) / 1024));
    return () -> launch(name, 6 * elements, grid, 256, out, in, elements);
  }

  private Runnable sample() {
    Buffer logits = floats((long) rows * VOCABULARY);
    Buffer zeros = scope.of(new int[2 * rows]);
    Buffer ones = floats(rows);
    Buffer tokens = scope.allocate(4L * rows);
    Buffer logProbabilities = scope.allocate(4L * rows);
    return () ->
        launch(
            "sample",
            4L * rows * VOCABULARY,
            Grid.of(rows),
            1024,
            tokens,
            logProbabilities,
            logits,
            VOCABULARY,
            zeros,
            zeros,
            ones,
            zeros);
  }

  private Runnable topTokens() {
    int kept = 10;
    Buffer entries = floats((long) rows * VOCABULARY);
    Buffer ids = scope.allocate(8L * rows * kept);
    Buffer values = scope.allocate(8L * rows * kept);
    Buffer logSum = scope.allocate(16L * rows);
    return () ->
        launch(
            "top_tokens",
            4L * rows * VOCABULARY,
            Grid.of(rows),
            256,
            ids,
            values,
            logSum,
            entries,
            (long) VOCABULARY,
            VOCABULARY,
            0,
            kept,
            2,
            1);
  }

  private Runnable neuronVectors() {
    Buffer weights = numbers((long) rows * D_MODEL);
    Buffer out = room(rows, D_MODEL);
    Buffer norms = scope.allocate(4L * rows);
    Buffer gain = floats(D_MODEL);
    String name = "neuron_vectors" + suffix() + suffix();
    long bytes = 2L * rows * D_MODEL * type.bytes();
    return () ->
        launch(
            name, bytes, Grid.of(rows), 256, out, norms, weights, gain, D_MODEL, 1e-5f, 1);
  }

  private Runnable transpose() {
    Buffer in = numbers((long) rows * D_MODEL);
    Buffer out = room(rows, D_MODEL);
    String name = type.bytes() == 2 ? "transpose_16" : "transpose_32";
    Grid grid = Grid.of(Math.ceilDiv(rows, 32), D_MODEL / 32);
    long bytes = 2L * rows * D_MODEL * type.bytes();
    return () -> launch(name, bytes, grid, 256, out, in, (long) rows, D_MODEL, rows);
  }

  private void launch(String kernel, long bytes, Grid grid, int block, Object... arguments) {
    device.launch(device.kernel(kernel), bytes, grid, block, 0, arguments);
  }

  private String suffix() {
    return "_" + type.name().toLowerCase(Locale.ROOT);
  }

  private Buffer room(int rows, int columns) {
    return scope.allocate((long) rows * columns * type.bytes());
  }

  private Buffer floats(long count) {
    return fill(scope.allocate(4 * count), DType.F32);
  }

  private Buffer numbers(long count) {
    return fill(scope.allocate(count * type.bytes()), type);
  }

  /** Numbers of order 1: on zeros some processors run faster, on others' leavings slower. */
  private static Buffer fill(Buffer buffer, DType type) {
    float[] values = new float[1 << 20];
    Random random = new Random(1);
    short[] bits = new short[2 * values.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = random.nextFloat() - 0.5f;
      bits[2 * i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
      bits[2 * i + 1] = bits[2 * i];
    }
    MemorySegment block =
        type == DType.F32
            ? MemorySegment.ofArray(values)
            : MemorySegment.ofArray(bits);
    for (long at = 0; at < buffer.bytes(); at += block.byteSize()) {
      long length = Math.min(block.byteSize(), buffer.bytes() - at);
      buffer.slice(at).copyFrom(block.asSlice(0, length));
    }
    return buffer;
  }
}
