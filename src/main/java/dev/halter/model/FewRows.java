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
import java.util.stream.Stream;

/**
 * Products of a few rows with a block's weights, together with what stands before and after them:
 * the kernels of {@code cuda-kernels/multiply_few.cu} and {@code multiply_few_sm90.cu}. Each has
 * the bits that the product alone ({@link #multiply}) and the kernels beside it have, so that what
 * acts between them may have them run apart; a row's do not depend on the other rows.
 *
 * <p>They only stream the weights, for which cuBLAS's kernels are made for more rows. Measured on
 * an H200 with Llama-3.1-8B in bf16, tokens/s at 1, 2, 4 and 8 rows: the portable form 229, 375,
 * 733 and 1,008, cuBLAS 220, 436, 867 and 1,720. So that form is for one row. The one for sm_90
 * streams them through shared memory and multiplies eight rows as one; no card has run it yet.
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

  /** The kernels there are. */
  enum Form {
    /** Every card, f32 and bf16; W comes through registers. */
    PORTABLE,
    /** bf16 on compute capability 9.0; W comes through a ring in shared memory. */
    SM90
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
  private final Form form;
  private final int most;
  private final int shared; // bytes of a block that streams, 0: by Ring's rule
  private final int processors;
  private final Kernel multiply;
  private final Kernel add;
  private final Kernel gate;
  private final Kernel rope;

  /**
   * Finds the kernels.
   *
   * @param type of activations and weights: f32 or bf16
   * @param most rows that they are to take
   */
  FewRows(Device device, ModelConfig config, DType type, Form form, int most) {
    this(device, config, type, form, most, 0);
  }

  /**
   * As above, to be timed.
   *
   * @param shared bytes that a block of the form for sm_90 may have, 0 for as many as are right
   */
  FewRows(Device device, ModelConfig config, DType type, Form form, int most, int shared) {
    this.device = device;
    this.type = type;
    this.config = config;
    this.form = form;
    this.most = most;
    this.shared = shared;
    this.processors = device.multiprocessors();
    this.multiply = kernel("multiply_few");
    this.add = kernel("multiply_few_add");
    this.gate = kernel("multiply_few_gate");
    this.rope = kernel("multiply_few_rope");
  }

  private Kernel kernel(String name) {
    return switch (form) {
      case PORTABLE -> device.kernel(name + "_" + type.name().toLowerCase(Locale.ROOT));
      case SM90 -> device.kernel(name + "_sm90").early();
    };
  }

  /**
   * What {@code -Dhalter.few_rows} asks for: {@code auto}, the default, is on CUDA devices the form
   * for sm_90 where card and model have it, and else the portable form for one row; {@code sm90} or
   * {@code portable} that form; {@code cublas} never. On the CPU the device's products are made for
   * few rows.
   *
   * @return null if a model's products all go by {@link Device#multiply}
   */
  static FewRows of(Device device, ModelConfig config, LlamaWeights weights, DType type) {
    String wanted = System.getProperty(PROPERTY, "auto");
    boolean can = device.kind().equals("cuda") && weights.isMerged(type);
    boolean streams = can && device.runsSm90() && fitsSm90(config, type);
    return switch (wanted) {
      case "cublas" -> null;
      case "auto" ->
          streams
              ? new FewRows(device, config, type, Form.SM90, MOST)
              : can ? new FewRows(device, config, type, Form.PORTABLE, 1) : null;
      case "portable" -> can ? new FewRows(device, config, type, Form.PORTABLE, MOST) : null;
      case "sm90" -> streams ? new FewRows(device, config, type, Form.SM90, MOST) : null;
      default ->
          throw new IllegalArgumentException(
              "-D%s=%s: choose auto, sm90, portable or cublas".formatted(PROPERTY, wanted));
    };
  }

  /** Whether rows of bf16 begin at multiples of 16 bytes. */
  static boolean fitsSm90(ModelConfig config, DType type) {
    return type == DType.BF16
        && config.dModel() % 8 == 0
        && config.dMlp() % 8 == 0
        && config.nHeads() * config.dHead() % 8 == 0;
  }

  /** Whether a step with so many rows goes by these kernels. */
  boolean takes(int rows) {
    return rows <= most
        && switch (form) {
          case PORTABLE -> staged(rows) <= STAGED_BYTES;
          case SM90 -> new Ring(1, 1, rows, config.dModel(), true).stages >= 2;
        };
  }

  /** out [rows, n] = x · Wᵀ. */
  void multiply(Buffer out, Input in, Linear w, int rows) {
    launch(
        multiply,
        Math.ceilDiv(w.out(), 2),
        in.norm != null,
        bytes(w, rows, w.out()),
        rows,
        w,
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
        add,
        Math.ceilDiv(w.out(), 2),
        false,
        bytes(w, rows, w.out()) + 8L * rows * w.out(),
        rows,
        w,
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
        gate,
        dMlp,
        true,
        bytes(w, rows, dMlp),
        rows,
        w,
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
        rope,
        w.out() / 2,
        true,
        bytes(w, rows, w.out() + appended),
        rows,
        w,
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
   * Launches a kernel with the contract's arguments, after which the streaming ones take what they
   * have of the ring.
   *
   * @param pairs of W's rows
   * @param staged whether the rows of x lie in shared memory
   */
  private void launch(
      Kernel kernel,
      int pairs,
      boolean staged,
      long bytes,
      int rows,
      Linear w,
      Object... arguments) {
    switch (form) {
      case PORTABLE -> {
        Shape shape = new Shape(pairs, staged);
        int shared = staged ? staged(rows) : 0;
        device.launch(kernel, bytes, shape.grid(), shape.block(), shared, arguments);
      }
      case SM90 -> {
        int tiles = kernel == add ? tiles(pairs, rows) : 1;
        Ring ring = new Ring(pairs, tiles, rows, w.in(), staged);
        Stream<Object> last =
            kernel == add ? Stream.of(tiles, ring.stages) : Stream.of(ring.stages);
        Object[] all = Stream.concat(Arrays.stream(arguments), last).toArray();
        device.launch(kernel, bytes, ring.grid(), block(), ring.bytes(), all);
      }
    }
  }

  /** Blocks that fill all multiprocessors, or as many as there are pairs of rows for. */
  private final class Shape {
    final int warps;
    final int blocks;

    /** A norm that is staged wants its own kernel's block, for its bits. */
    Shape(int pairs, boolean staged) {
      this.warps =
          staged
              ? FewRows.this.block() / WARP
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

  /** What a launch of {@code multiply_few_sm90.cu} takes of each multiprocessor. */
  private final class Ring {
    private static final int TILE_PAIRS = 8; // the kernel's constants
    private static final int PITCH = 2 * 512 + 64;
    private static final int BARRIERS = 256;

    /** Two blocks share a multiprocessor's 228 KB, of which each leaves some to itself. */
    private static final int HALF = 112 << 10;

    private static final int WHOLE = 225 << 10;

    /** Stages of 16 KB, below which half is too little to stream through. */
    private static final int LEAST_OF_HALF = 4;

    private static final int MOST_STAGES = 12;

    final int items;
    final int stages;
    private final int fixedBytes;
    private final int stageBytes;

    Ring(int pairs, int tiles, int rows, int k, boolean staged) {
      this.items = Math.ceilDiv(pairs, tiles * TILE_PAIRS);
      int stagedRow = 2 * (Math.ceilDiv(k, 64) * 64 + 32);
      this.fixedBytes = BARRIERS + 16 * tiles * block() + (staged ? rows * stagedRow : 0);
      this.stageBytes = (2 * TILE_PAIRS * tiles + (staged ? 0 : rows)) * PITCH;
      int half = fitting(HALF);
      int stages = shared > 0 ? fitting(shared) : half >= LEAST_OF_HALF ? half : fitting(WHOLE);
      this.stages = Math.min(stages, MOST_STAGES);
    }

    private int fitting(int bytes) {
      return (bytes - fixedBytes) / stageBytes;
    }

    Grid grid() {
      return Grid.of(Math.min(processors, items));
    }

    int bytes() {
      return fixedBytes + stages * stageBytes;
    }
  }

  /**
   * Tiles of an item to which the rows of x come anew: two, which halves those bytes, where they
   * are many and the items still fill the card.
   */
  private int tiles(int pairs, int rows) {
    boolean fills = pairs / (2 * Ring.TILE_PAIRS) >= processors * 3 / 4;
    return rows > MOST / 2 && fills && block() > WARP ? 2 : 1;
  }

  /** Threads of a block with a norm of its own: as many as the norm's kernel has, for its bits. */
  private int block() {
    return RowKernels.rowBlock(config.dModel(), type);
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
