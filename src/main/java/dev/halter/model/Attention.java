package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Profile;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;

/**
 * Attention of one model: between the q, k, v product and the output projection. Launches the
 * kernels of {@code cuda-kernels/qkv.cu}, {@code attention.cu} and {@code attention_pattern.cu}.
 *
 * <p>All take {@code qkv} [rows, (n_heads + 2 n_kv_heads) d_head] in the activations' type, heads
 * in the order q, k, v. Grouped-query attention (Ainslie et al. 2023): query head {@code h} reads
 * KV head {@code h / (n_heads / n_kv_heads)}.
 */
final class Attention {
  private static final int BLOCK = 128;

  /** The portable kernel is bounded by its shared memory. */
  private static final int MAX_D_HEAD = 256;

  /**
   * The kernel that computes z; all have the same arguments.
   *
   * @param packed most rows of a tile times query heads of a group
   * @param sharedBytes dynamic shared memory
   * @param split what tiles of one row take instead, or null
   */
  record Form(String kernel, int packed, int sharedBytes, Split split) {
    private static final String PROPERTY = "halter.attention";

    /** Packed rows of a block on tensor cores. */
    private static final int SM80_PACKED = 64;

    /** {@code attention.cu}: every device, type and shape. */
    static Form portable(ModelConfig config, DType type) {
      int packed = 16;
      int lanes = 16;
      int floats = packed * (2 * config.dHead() + KvCache.PAGE + 2 * lanes + 4);
      String kernel = "attention_" + type.name().toLowerCase(Locale.ROOT);
      return new Form(kernel, packed, 4 * floats, null);
    }

    /** {@code attention_sm80.cu}: tensor cores, where {@link #fitsSm80}. */
    static Form sm80(ModelConfig config) {
      int dHead = config.dHead();
      boolean splits = config.nHeads() / config.nKvHeads() <= Split.PACKED;
      return new Form(
          "attention_sm80_" + dHead, SM80_PACKED, 384 * dHead, splits ? Split.sm80(dHead) : null);
    }

    /** Whether values come in whole pages, as keys do, and not only those that are seen. */
    boolean readsValuesInPages() {
      return packed == SM80_PACKED;
    }

    /** This form without its split. */
    Form whole() {
      return new Form(kernel, packed, sharedBytes, null);
    }

    /** Bytes of scratch for each {@link Work#places place}. */
    long placeBytes(ModelConfig config) {
      return split == null ? 0 : 4L * config.nHeads() * (config.dHead() + 4);
    }

    static boolean fitsSm80(ModelConfig config, DType type) {
      int dHead = config.dHead();
      int group = config.nHeads() / config.nKvHeads();
      return type == DType.BF16 && (dHead == 64 || dHead == 128) && group <= 64;
    }

    /**
     * The form that {@code -Dhalter.attention} asks for. {@code auto}, the default, is the
     * tensor-core form on CUDA devices for models that it fits (every CUDA device that Halter has
     * kernels for is sm_80 or later): measured 2.8 times as fast in a prefill and 2.5 times in
     * decoding at 1k tokens. Everywhere else it is the portable one.
     */
    static Form of(Device device, ModelConfig config, DType type) {
      String wanted = System.getProperty(PROPERTY, "auto");
      return switch (wanted) {
        case "portable" -> portable(config, type);
        case "auto", "sm80" ->
            device.kind().equals("cuda") && fitsSm80(config, type)
                ? sm80(config)
                : portable(config, type);
        default ->
            throw new IllegalArgumentException(
                "-D%s=%s: choose auto, portable or sm80".formatted(PROPERTY, wanted));
      };
    }
  }

  /**
   * A kernel for tiles of one row, which makes the bits of the form that it belongs to: a block for
   * the keys [{@value #KEYS} s, {@value #KEYS} (s + 1)) of a row, of which the last merges what all
   * leave.
   */
  record Split(String kernel, int sharedBytes) {
    /** Keys of a split; the kernels' constant. */
    static final int KEYS = 2 * KvCache.PAGE;

    /** Most query heads of a group. */
    private static final int PACKED = 16;

    private static Split sm80(int dHead) {
      return new Split("attention_split_sm80_" + dHead, 512 * dHead + 4096);
    }

    /** Splits of the keys up to a row's own. */
    static int count(int position) {
      return position / KEYS + 1;
    }
  }

  /**
   * A step's work, block by block, and what launches depend on of it.
   *
   * @param tiles the first {@code whole} as {first row, rows, sequence, position of the first row},
   *     the others as {row, first place in the scratch, sequence, position}
   */
  record Work(List<int[]> tiles, Shape shape) {
    /**
     * @param whole tiles that a block works on alone
     * @param split tiles of one row whose keys are split over blocks
     * @param extent blocks for each of them, at least its splits: a power of two, so that a
     *     recorded step is right for a long while as contexts grow
     */
    record Shape(int whole, int split, int extent) {}

    /** Places that cover every step with one row for each sequence. */
    static long places(int pages, int sequences) {
      return pages * (long) KvCache.PAGE / Split.KEYS + sequences;
    }
  }

  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final Form form;
  private final AttentionBytes bytes;
  private final int places; // of the scratch
  private final Buffer partials; // [places, n_heads, d_head + 4] f32, or null
  private final Buffer arrived; // [rows, n_kv_heads] int, 0 between launches; or null
  private final float scale;
  private final Buffer inverseFrequencies; // [d_head / 2] f32
  private final Kernel biasNorm;
  private final Kernel ropeAppend;
  private final Kernel attention;
  private final Kernel split;
  private final Kernel pattern;
  private final int ropeParts; // blocks that share the heads of a row

  /**
   * Prepares the kernels.
   *
   * @param scope that its buffers live in
   * @param type of the activations: f32 or bf16
   * @param limits which rows may have their keys split
   * @throws IllegalArgumentException if d_head is odd or over 256
   */
  Attention(Scope scope, ModelConfig config, DType type, Llama.Limits limits) {
    this(scope, config, type, limits, Form.of(scope.device(), config, type));
  }

  Attention(Scope scope, ModelConfig config, DType type, Llama.Limits limits, Form form) {
    int dHead = config.dHead();
    if (dHead % 2 != 0 || dHead > MAX_D_HEAD) {
      throw new IllegalArgumentException(
          "d_head is %d: attention takes even ones up to %d".formatted(dHead, MAX_D_HEAD));
    }
    this.device = scope.device();
    this.config = config;
    this.type = type;
    this.form = form;
    this.bytes = new AttentionBytes(config, type, form);
    this.scale = (float) (1 / Math.sqrt(dHead));
    this.inverseFrequencies = scope.of(config.inverseFrequencies());
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.biasNorm = device.kernel("qkv_bias_norm" + suffix);
    this.ropeAppend = device.kernel("rope_append" + suffix);
    this.attention = device.kernel(form.kernel());
    Split parts = form.split();
    this.split = parts == null ? null : device.kernel(parts.kernel()).early();
    this.places =
        parts == null ? 0 : Math.toIntExact(Work.places(limits.pages(), limits.sequences()));
    this.partials = parts == null ? null : scope.allocate(places * form.placeBytes(config));
    this.arrived = parts == null ? null : scope.of(new int[limits.rows() * config.nKvHeads()]);
    this.pattern = device.kernel("attention_pattern" + suffix);
    // On the CPU each part would compute its row's angles for no gain.
    this.ropeParts = device.kind().equals("cuda") ? ropeParts(config, type) : 1;
  }

  /**
   * What becomes of q and k before they rotate. Each may be null, and both norms are or neither is.
   *
   * @param bias [(n_heads + 2 n_kv_heads) d_head] f32
   * @param qNorm gain [d_head] f32 of q's RMSNorm, likewise {@code kNorm}
   */
  record HeadChanges(Buffer bias, Buffer qNorm, Buffer kNorm) {
    static final HeadChanges NONE = new HeadChanges(null, null, null);

    boolean isNone() {
      return bias == null && qNorm == null;
    }
  }

  /** Adds the biases and normalises each q and k head, in place. */
  void biasAndNorm(Buffer qkv, int rows, HeadChanges changes) {
    if (changes.isNone()) {
      return;
    }
    device.launch(
        biasNorm,
        (long) rows * changedBytes(changes),
        Grid.of(rows, ropeParts),
        BLOCK,
        4 * BLOCK,
        qkv,
        changes.bias,
        changes.qNorm,
        changes.kNorm,
        (float) config.rmsNormEps(),
        config.nHeads(),
        config.nKvHeads(),
        config.dHead());
  }

  /** Read and written of a row; v has no norm. */
  private long changedBytes(HeadChanges changes) {
    int changed = config.nHeads() + (changes.bias == null ? 1 : 2) * config.nKvHeads();
    return 2L * changed * config.dHead() * type.bytes();
  }

  /** What a position turns each pair of a head by: [d_head / 2] f32. */
  Buffer inverseFrequencies() {
    return inverseFrequencies;
  }

  /** As many that each thread has one pack of 16 bytes of either half of a head. */
  private static int ropeParts(ModelConfig config, DType type) {
    int pack = 16 / type.bytes();
    int pairs = config.dHead() / 2;
    int threads = pairs % pack == 0 ? pairs / pack : pairs; // a head's
    return Math.ceilDiv(config.nHeads() + 2 * config.nKvHeads(), Math.max(1, BLOCK / threads));
  }

  /** Rotates q and k in place and appends k and v to the cache at the rows' positions. */
  void rotateAndAppend(Buffer qkv, int rows, StepTables step, KvCache cache, int layer) {
    rotateAndAppend(qkv, rows, HeadChanges.NONE, step, cache, layer);
  }

  /** {@link #biasAndNorm} and the above in one launch, with the bits of both. */
  void rotateAndAppend(
      Buffer qkv, int rows, HeadChanges changes, StepTables step, KvCache cache, int layer) {
    int heads = 2 * config.nHeads() + 5 * config.nKvHeads(); // reads and writes of one
    device.launch(
        ropeAppend,
        (long) rows * heads * config.dHead() * type.bytes(),
        Grid.of(rows, ropeParts),
        BLOCK,
        4 * (config.dHead() + BLOCK),
        qkv,
        changes.bias,
        changes.qNorm,
        changes.kNorm,
        (float) config.rmsNormEps(),
        inverseFrequencies,
        step.positions,
        step.sequences,
        cache.pageTable(),
        cache.pagesPerSequence(),
        cache.keys(layer),
        cache.values(layer),
        config.nHeads(),
        config.nKvHeads(),
        config.dHead());
  }

  /**
   * The work of {@link #attend}. Tiles have as many rows of a span as a block holds at once with
   * the heads of a group; the longest come first, since they see the most keys. Those of one row
   * are split where the form can and the scratch has room; that changes no bits.
   *
   * @param maySplit whether any are: log-sum-exps are left by whole ones alone
   */
  Work work(Batch batch, boolean maySplit) {
    int most = Math.max(1, form.packed() / (config.nHeads() / config.nKvHeads()));
    List<int[]> tiles = new ArrayList<>();
    List<int[]> split = new ArrayList<>();
    int place = 0;
    int longest = 0;
    for (Batch.Span span : batch.spans()) {
      for (int i = 0; i < span.length(); i += most) {
        int rows = Math.min(most, span.length() - i);
        int position = span.position() + i;
        int splits = Split.count(position);
        if (maySplit && rows == 1 && splits <= places - place) {
          split.add(new int[] {span.firstRow() + i, place, span.sequence(), position});
          place += splits;
          longest = Math.max(longest, splits);
        } else {
          tiles.add(new int[] {span.firstRow() + i, rows, span.sequence(), position});
        }
      }
    }
    tiles.sort((a, b) -> Integer.compare(b[3] + b[1], a[3] + a[1]));
    split.sort((a, b) -> Integer.compare(b[3], a[3]));
    int extent = longest < 2 ? longest : Integer.highestOneBit(longest - 1) << 1;
    Work.Shape shape = new Work.Shape(tiles.size(), split.size(), extent);
    tiles.addAll(split);
    return new Work(tiles, shape);
  }

  /** As below, for z alone. */
  void attend(
      Buffer z,
      Buffer qkv,
      Work.Shape work,
      StepTables step,
      KvCache cache,
      int layer,
      Edits edits) {
    attend(z, null, qkv, work, step, cache, layer, edits);
  }

  /**
   * z = softmax(q kᵀ / √d_head) v, with the head edits of the site made to it.
   *
   * @param z [rows, n_heads d_head], written
   * @param logSum [rows, n_heads] f32, written: log-sum-exps of the scores; or null
   * @param work of the step, nothing of it split where there is {@code logSum}
   */
  void attend(
      Buffer z,
      Buffer logSum,
      Buffer qkv,
      Work.Shape work,
      StepTables step,
      KvCache cache,
      int layer,
      Edits edits) {
    if (logSum != null && work.split() > 0) {
      throw new IllegalArgumentException("tiles whose keys are split leave no log-sum-exps");
    }
    if (work.split() > 0) {
      attendSplit(z, qkv, work, step, cache, layer, edits);
    }
    if (work.whole() == 0) {
      return;
    }
    int window = config.slidingWindow(layer);
    device.launch(
        attention,
        device.isProfiled()
            ? bytes.whole(step.work(), window) + (logSum == null ? 0 : logSum.bytes())
            : Profile.UNKNOWN,
        Grid.of(work.whole(), config.nKvHeads()),
        BLOCK,
        form.sharedBytes(),
        z,
        logSum,
        qkv,
        cache.keys(layer),
        cache.values(layer),
        cache.pageTable(),
        cache.pagesPerSequence(),
        step.tiles,
        config.nHeads(),
        config.nKvHeads(),
        config.dHead(),
        scale,
        window,
        edits.ranges(Site.Kind.Z, layer),
        edits.steering());
  }

  private void attendSplit(
      Buffer z,
      Buffer qkv,
      Work.Shape work,
      StepTables step,
      KvCache cache,
      int layer,
      Edits edits) {
    int window = config.slidingWindow(layer);
    // A window lies in one split more than it fills.
    int extent =
        window == 0 ? work.extent() : Math.min(work.extent(), Math.ceilDiv(window, Split.KEYS) + 1);
    Buffer ranges = edits.ranges(Site.Kind.Z, layer);
    device.launch(
        split,
        device.isProfiled() ? bytes.split(step.work(), window, ranges != null) : Profile.UNKNOWN,
        new Grid(work.split(), config.nKvHeads(), extent),
        BLOCK,
        form.split().sharedBytes(),
        z,
        partials,
        arrived,
        qkv,
        cache.keys(layer),
        cache.values(layer),
        cache.pageTable(),
        cache.pagesPerSequence(),
        step.tiles.slice(16L * work.whole()),
        config.nHeads(),
        config.nKvHeads(),
        scale,
        window,
        ranges,
        edits.steering());
  }

  /**
   * Attention patterns of all heads for the rows of a span from index {@code from} on, whose keys
   * must be in the cache: [n_heads, rows, keys] with keys = position + length of the span; 0 where
   * a row does not see a key.
   *
   * @param out written
   */
  void pattern(Buffer out, Buffer qkv, Batch.Span span, int from, KvCache cache, int layer) {
    int[] heads = IntStream.range(0, config.nHeads()).toArray();
    pattern(out, qkv, span, from, cache, layer, heads);
  }

  /** As above, of some query heads: [heads, rows, keys]. */
  void pattern(
      Buffer out, Buffer qkv, Batch.Span span, int from, KvCache cache, int layer, int[] heads) {
    try (Scope scope = device.scope()) {
      device.launch(
          pattern,
          Grid.of(span.length() - from, heads.length),
          BLOCK,
          4 * config.dHead(),
          out,
          qkv,
          cache.keys(layer),
          cache.pageTable(),
          cache.pagesPerSequence(),
          scope.of(heads),
          span.firstRow() + from,
          span.length() - from,
          span.sequence(),
          span.position() + from,
          span.position() + span.length(),
          config.nHeads(),
          config.nKvHeads(),
          config.dHead(),
          scale,
          config.slidingWindow(layer));
    }
  }
}
