package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import java.util.Locale;
import java.util.function.Function;

/**
 * Products of a few rows with a block's weights, together with what stands before and after them:
 * the kernels of {@code cuda-kernels/multiply_few.cu}, and on cards that have them those of {@code
 * multiply_few_sm90.cu}, with the same bits. Each has the bits that the product alone ({@link
 * #multiply}) and the kernels beside it have, so that what acts between them may have them run
 * apart; a row's do not depend on the other rows.
 *
 * <p>They only stream the weights, in fewer launches than cuBLAS's products and what stands beside
 * those. Measured on an H200 that is faster at one row, where they stream at two, and slower at
 * more, for which they issue too many instructions ({@code doc/gpu.md}).
 */
final class FewRows {
  /** Most rows that the kernels take. */
  static final int MOST = 8;

  /** Most that they take unasked, where they stream, and where they do not. */
  private static final int STREAMED = 2;

  private static final int PORTABLE = 1;

  private static final String PROPERTY = "halter.few_rows";
  private static final int WARP = 32;

  /** Warps of a multiprocessor: 128 registers a thread allow no more. */
  private static final int WARPS = 16;

  /** Shared memory that a block of every card may have, for the rows that are staged in it. */
  private static final int STAGED_BYTES = 96 << 10;

  /** Whose kernels there are. */
  private record Kernels(Kernel multiply, Kernel add, Kernel gate, Kernel rope) {
    static Kernels of(Function<String, Kernel> named) {
      return new Kernels(
          named.apply("multiply_few"),
          named.apply("multiply_few_add"),
          named.apply("multiply_few_gate"),
          named.apply("multiply_few_rope"));
    }
  }

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
  private final Kernels portable;
  private final Kernels streaming; // null: the card or the type has none

  /**
   * Finds the kernels.
   *
   * @param type of activations and weights: f32 or bf16
   * @param most rows that they are to take, at most {@link #MOST}
   * @param streams whether to take those of {@code multiply_few_sm90.cu} where they fit
   */
  FewRows(Device device, ModelConfig config, DType type, int most, boolean streams) {
    this.device = device;
    this.type = type;
    this.config = config;
    this.most = most;
    this.processors = device.multiprocessors();
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.portable = Kernels.of(name -> device.kernel(name + suffix));
    this.streaming = streams ? Kernels.of(name -> device.kernel(name + "_sm90").early()) : null;
  }

  /**
   * What {@code -Dhalter.few_rows} asks for: {@code auto}, the default, is these kernels on CUDA
   * devices for one row, and for two where they stream; {@code own} for as many rows as they take,
   * {@code portable} likewise but without those for sm_90; {@code cublas} never. On the CPU the
   * device's products are made for few rows.
   *
   * @return null if a model's products all go by {@link Device#multiply}
   */
  static FewRows of(Device device, ModelConfig config, LlamaWeights weights, DType type) {
    String wanted = System.getProperty(PROPERTY, "auto");
    boolean streams = device.runsSm90() && type == DType.BF16 && !wanted.equals("portable");
    int most =
        switch (wanted) {
          case "auto" -> streams ? STREAMED : PORTABLE;
          case "own", "portable" -> MOST;
          case "cublas" -> 0;
          default ->
              throw new IllegalArgumentException(
                  "-D%s=%s: choose auto, own, portable or cublas".formatted(PROPERTY, wanted));
        };
    boolean can = most > 0 && device.kind().equals("cuda") && weights.isMerged(type);
    return can ? new FewRows(device, config, type, most, streams) : null;
  }

  /** Whether a step with so many rows goes by these kernels. */
  boolean takes(int rows) {
    return rows <= most && staged(rows) <= STAGED_BYTES;
  }

  /** out [rows, n] = x · Wᵀ. */
  void multiply(Buffer out, Input in, Linear w, int rows) {
    launch(
        Kernels::multiply,
        new Work(Math.ceilDiv(w.out(), 2), rows, w.in(), in.norm != null, in.norm != null),
        bytes(w, rows, w.out()),
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
    launch(
        Kernels::add,
        new Work(Math.ceilDiv(w.out(), 2), rows, w.in(), false, false),
        bytes(w, rows, w.out()) + 8L * rows * w.out(),
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
    launch(
        Kernels::gate,
        new Work(dMlp, rows, w.in(), true, in.norm != null),
        bytes(w, rows, dMlp),
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
    int appended = 2 * config.nKvHeads() * config.dHead();
    launch(
        Kernels::rope,
        new Work(w.out() / 2, rows, w.in(), true, in.norm != null),
        bytes(w, rows, w.out() + appended),
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

  /**
   * Launches a kernel with the contract's arguments; one that streams takes its stages after them.
   */
  private void launch(
      Function<Kernels, Kernel> kernel, Work work, long bytes, Object... arguments) {
    Ring ring = streaming == null ? null : new Ring(work);
    if (ring != null && ring.fits()) {
      Object[] all = Arrays.copyOf(arguments, arguments.length + 1);
      all[arguments.length] = ring.stages;
      device.launch(
          kernel.apply(streaming),
          bytes,
          blocks(work.pairs, ring.warps),
          WARP * ring.warps,
          ring.bytes(),
          all);
      return;
    }
    int warps = work.staged ? normWarps() : warps(work.pairs);
    device.launch(
        kernel.apply(portable),
        bytes,
        blocks(work.pairs, warps),
        WARP * warps,
        work.staged ? staged(work.rows) : 0,
        arguments);
  }

  /**
   * What a launch has to do.
   *
   * @param pairs of W's rows
   * @param rows of x, of {@code k} elements
   * @param staged whether the portable kernel has x in shared memory
   * @param norms whether it is the norm of x that is multiplied
   */
  private record Work(int pairs, int rows, int k, boolean staged, boolean norms) {}

  /** A norm that is taken along wants its own kernel's block, for its bits. */
  private int normWarps() {
    return RowKernels.rowBlock(config.dModel(), type) / WARP;
  }

  /** As many as give each multiprocessor work. */
  private int warps(int pairs) {
    return Math.clamp(Math.ceilDiv(pairs, processors), 1, WARPS);
  }

  /** Blocks that fill all multiprocessors, or as many as there are pairs of rows for. */
  private Grid blocks(int pairs, int warps) {
    return Grid.of(Math.min(processors * blocksOfEach(warps), Math.ceilDiv(pairs, warps)));
  }

  private static int blocksOfEach(int warps) {
    return Math.max(1, WARPS / warps);
  }

  /** The shared memory of a block of {@code multiply_few_sm90.cu}. */
  private final class Ring {
    /** Bytes of a warp's stage: a chunk of both rows, and its barrier. */
    private static final int STAGE = 2 * 1024 * 2 + 8;

    private static final int MOST_STAGES = 3;

    /** Of a multiprocessor of sm_90, and what a block of it cannot have or has without asking. */
    private static final int MULTIPROCESSOR = 228 << 10;

    private static final int RESERVED = 3 << 10;

    final int warps;
    final int stages;
    private final int x;

    Ring(Work work) {
      this.warps = work.norms ? normWarps() : warps(work.pairs);
      this.x = Math.ceilDiv(2 * work.rows * work.k, 128) * 128;
      int room = MULTIPROCESSOR / blocksOfEach(warps) - RESERVED;
      int fitting = work.k % 8 == 0 ? (room - x) / (warps * STAGE) : 0;
      this.stages = Math.min(fitting, MOST_STAGES);
    }

    /** Whether a warp can multiply one stage while another comes. */
    boolean fits() {
      return stages >= 2;
    }

    int bytes() {
      return x + warps * stages * STAGE;
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
