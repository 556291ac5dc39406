package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.util.Locale;

/**
 * Products of a few rows with a block's weights, together with what stands before and after them:
 * the kernels of {@code cuda-kernels/multiply_few.cu}. Each has the bits that the product alone
 * ({@link #multiply}) and the kernels beside it have, so that what acts between them may have them
 * run apart; a row's do not depend on the other rows.
 *
 * <p>They only stream the weights, in fewer launches than cuBLAS's products and what stands beside
 * those. Measured on an H200 that is faster at one row, and slower from two on, for which they
 * issue too many instructions ({@code doc/gpu.md}).
 */
final class FewRows {
  /** Most rows that the kernels take. */
  static final int MOST = 8;

  private static final String PROPERTY = "halter.few_rows";
  private static final int WARP = 32;

  /** Warps of a multiprocessor: 128 registers a thread allow no more. */
  private static final int WARPS = 16;

  /** Shared memory that a block of every card may have, for the rows that are staged in it. */
  private static final int STAGED_BYTES = 96 << 10;

  /**
   * What is multiplied.
   *
   * @param x [rows, k] in the activations' type; with a norm f32, of which the norm is taken
   * @param norm without edits of its input, or null
   */
  record Input(Buffer x, RowKernels.Norm norm) {}

  private final Device device;
  private final DType type;
  private final ModelConfig config;
  private final int most;
  private final int processors;
  private final Kernel multiply;
  private final Kernel add;
  private final Kernel gate;
  private final Kernel rope;

  /**
   * Finds the kernels.
   *
   * @param type of activations and weights: f32 or bf16
   * @param most rows that they are to take, at most {@link #MOST}
   */
  FewRows(Device device, ModelConfig config, DType type, int most) {
    this.device = device;
    this.type = type;
    this.config = config;
    this.most = most;
    this.processors = device.multiprocessors();
    this.multiply = kernel("multiply_few");
    this.add = kernel("multiply_few_add");
    this.gate = kernel("multiply_few_gate");
    this.rope = kernel("multiply_few_rope");
  }

  private Kernel kernel(String name) {
    return device.kernel(name + "_" + type.name().toLowerCase(Locale.ROOT)).early();
  }

  /**
   * What {@code -Dhalter.few_rows} asks for: {@code auto}, the default, is these kernels for one
   * row on CUDA devices; {@code own} for as many rows as they take; {@code cublas} never. On the
   * CPU the device's products are made for few rows.
   *
   * @return null if a model's products all go by {@link Device#multiply}
   */
  static FewRows of(Device device, ModelConfig config, LlamaWeights weights, DType type) {
    String wanted = System.getProperty(PROPERTY, "auto");
    int most =
        switch (wanted) {
          case "auto" -> 1;
          case "own" -> MOST;
          case "cublas" -> 0;
          default ->
              throw new IllegalArgumentException(
                  "-D%s=%s: choose auto, own or cublas".formatted(PROPERTY, wanted));
        };
    boolean can = most > 0 && device.kind().equals("cuda") && weights.isMerged(type);
    return can ? new FewRows(device, config, type, most) : null;
  }

  /** Whether a step with so many rows goes by these kernels. */
  boolean takes(int rows) {
    return rows <= most && staged(rows) <= STAGED_BYTES;
  }

  /** out [rows, n] = x · Wᵀ. */
  void multiply(Buffer out, Input in, Linear w, int rows) {
    boolean isStaged = in.norm != null;
    Shape shape = new Shape(Math.ceilDiv(w.out(), 2), isStaged);
    device.launch(
        multiply,
        bytes(w, rows, w.out()),
        shape.grid(),
        shape.block(),
        isStaged ? staged(rows) : 0,
        out,
        in.x,
        gain(in),
        eps(in),
        w.weight(),
        rows,
        w.out(),
        w.in());
  }

  /** {@code y [rows, n] f32 += in · Wᵀ + bias}, in [rows, k], bias f32 or null. */
  void add(Buffer y, Buffer in, Linear w, Buffer bias, int rows) {
    Shape shape = new Shape(Math.ceilDiv(w.out(), 2), false);
    device.launch(
        add,
        bytes(w, rows, w.out()) + 8L * rows * w.out(),
        shape.grid(),
        shape.block(),
        0,
        y,
        in,
        w.weight(),
        bias,
        rows,
        w.out(),
        w.in());
  }

  /**
   * out [rows, d_mlp] = silu(gate) · up, each with its bias or null; the gate's weights are first.
   */
  void gate(Buffer out, Input in, Linear w, Buffer gateBias, Buffer upBias, int rows) {
    int dMlp = w.out() / 2;
    Shape shape = new Shape(dMlp, true);
    device.launch(
        gate,
        bytes(w, rows, dMlp),
        shape.grid(),
        shape.block(),
        staged(rows),
        out,
        in.x,
        gain(in),
        eps(in),
        w.weight(),
        gateBias,
        upBias,
        rows,
        dMlp,
        w.in());
  }

  /**
   * q, k and v with their bias or null, rotated and appended to the cache; see {@link Attention}.
   */
  void rope(
      Buffer qkv,
      Input in,
      Linear w,
      Buffer bias,
      Buffer inverseFrequencies,
      StepTables step,
      KvCache cache,
      int layer,
      int rows) {
    Shape shape = new Shape(w.out() / 2, true);
    int appended = 2 * config.nKvHeads() * config.dHead();
    device.launch(
        rope,
        bytes(w, rows, w.out() + appended),
        shape.grid(),
        shape.block(),
        staged(rows),
        qkv,
        in.x,
        gain(in),
        eps(in),
        w.weight(),
        bias,
        inverseFrequencies,
        step.positions,
        step.sequences,
        cache.pageTable(),
        cache.pagesPerSequence(),
        cache.keys(layer),
        cache.values(layer),
        rows,
        config.nHeads(),
        config.nKvHeads(),
        config.dHead(),
        w.in());
  }

  /** Blocks that fill all multiprocessors, or as many as there are pairs of rows for. */
  private final class Shape {
    final int warps;
    final int blocks;

    /** A norm that is staged wants its own kernel's block, for its bits. */
    Shape(int pairs, boolean staged) {
      this.warps =
          staged
              ? RowKernels.rowBlock(config.dModel(), type) / WARP
              : Math.clamp(Math.ceilDiv(pairs, processors), 1, WARPS);
      this.blocks = Math.min(processors * Math.max(1, WARPS / warps), Math.ceilDiv(pairs, warps));
    }

    Grid grid() {
      return Grid.of(blocks);
    }

    int block() {
      return WARP * warps;
    }
  }

  private int staged(int rows) {
    return rows * config.dModel() * type.bytes();
  }

  private long bytes(Linear w, int rows, int written) {
    return ((long) w.out() * w.in() + (long) rows * (w.in() + written)) * type.bytes();
  }

  private static Buffer gain(Input in) {
    return in.norm == null ? null : in.norm.gain();
  }

  private static float eps(Input in) {
    return in.norm == null ? 0 : in.norm.eps();
  }
}
