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
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
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

  // Of rope_append_rows: rows that a block has together, its threads, and rows from which it pays.
  private static final int ROPE_ROWS = 8;
  private static final int ROPE_BLOCK = 512;
  private static final int ROPE_ROWS_FROM = 256;

  /** The portable kernel is bounded by its shared memory. */
  private static final int MAX_D_HEAD = 256;

  /**
   * The kernel that computes z; all have the same arguments.
   *
   * @param packed most rows of a tile times query heads of a group
   * @param sharedBytes dynamic shared memory
   * @param split what spans of one row take instead, or null
   * @param wide what spans of several rows take instead, or null
   */
  record Form(String kernel, int packed, int sharedBytes, Split split, Wide wide) {
    private static final String PROPERTY = "halter.attention";

    /** Packed rows of a block on tensor cores. */
    private static final int SM80_PACKED = 64;

    /** {@code attention.cu}: every device, type and shape. */
    static Form portable(ModelConfig config, DType type) {
      int packed = 16;
      int lanes = 16;
      int floats = packed * (2 * config.dHead() + KvCache.PAGE + 2 * lanes + 4);
      String kernel = "attention_" + type.name().toLowerCase(Locale.ROOT);
      return new Form(kernel, packed, 4 * floats, null, null);
    }

    /** {@code attention_sm80.cu}: tensor cores, where {@link #fitsSm80}. */
    static Form sm80(ModelConfig config) {
      int dHead = config.dHead();
      boolean splits = config.nHeads() / config.nKvHeads() <= Split.PACKED;
      return new Form(
          "attention_sm80_" + dHead,
          SM80_PACKED,
          384 * dHead,
          splits ? Split.sm80(dHead, Cascade.sm80(config, SM80_PACKED)) : null,
          null);
    }

    /** That with {@code attention_sm90.cu} for prefill: devices that {@link Device#runsSm90}. */
    static Form sm90(Device device, ModelConfig config) {
      return sm80(config).with(Wide.sm90(config.dHead(), device.multiprocessors()));
    }

    Form with(Wide wide) {
      return new Form(kernel, packed, sharedBytes, split, wide);
    }

    /** Whether values come in whole pages, as keys do, and not only those that are seen. */
    boolean readsValuesInPages() {
      return packed == SM80_PACKED;
    }

    /** This form without its split. */
    Form whole() {
      return new Form(kernel, packed, sharedBytes, null, wide);
    }

    /** This form where rows share all that they can, if they do at all. */
    Form sharingAll() {
      return split == null || split.cascade == null ? this : sharing(split.cascade.always());
    }

    /** This form whose rows share nothing. */
    Form sharingNothing() {
      return sharing(null);
    }

    private Form sharing(Cascade cascade) {
      Split other = new Split(split.kernel, split.sharedBytes, cascade);
      return new Form(kernel, packed, sharedBytes, other, wide);
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
     * decoding at 1k tokens; with wgmma for prefill on cards that have it (2.5 times as fast
     * again), unless {@code sm80} is asked for. Everywhere else it is the portable one.
     */
    static Form of(Device device, ModelConfig config, DType type) {
      String wanted = System.getProperty(PROPERTY, "auto");
      if (!List.of("auto", "portable", "sm80", "sm90").contains(wanted)) {
        throw new IllegalArgumentException(
            "-D%s=%s: choose auto, portable, sm80 or sm90".formatted(PROPERTY, wanted));
      }
      boolean isCuda = device.kind().equals("cuda");
      if (wanted.equals("sm90") && isCuda && !device.runsSm90()) {
        throw new IllegalArgumentException(
            "-D%s=sm90 is not for %s: choose auto, portable or sm80"
                .formatted(PROPERTY, device.description()));
      }
      if (wanted.equals("portable") || !isCuda || !fitsSm80(config, type)) {
        return portable(config, type);
      }
      return device.runsSm90() && !wanted.equals("sm80") ? sm90(device, config) : sm80(config);
    }
  }

  /**
   * A kernel for spans of one row, which makes the bits of the form that it belongs to: a block for
   * the keys [{@value #KEYS} s, {@value #KEYS} (s + 1)) of a row, of which the last merges what all
   * leave.
   *
   * @param cascade what makes the splits that rows share, or null
   */
  record Split(String kernel, int sharedBytes, Cascade cascade) {
    /** Keys of a split; the kernels' constant. */
    static final int KEYS = 2 * KvCache.PAGE;

    /** Most query heads of a group. */
    private static final int PACKED = 16;

    private static Split sm80(int dHead, Cascade cascade) {
      return new Split("attention_split_sm80_" + dHead, 512 * dHead + 8192, cascade);
    }

    /** Splits of the keys up to a row's own. */
    static int count(int position) {
      return position / KEYS + 1;
    }
  }

  /**
   * A kernel for spans of more than one row, which sums in another order than the form that it
   * belongs to: a row's bits depend on whether its span has others, and on nothing else of the
   * step.
   *
   * @param packed most rows of a tile times query heads of a group
   * @param blocks most that share the tiles of all KV heads: as many as run at the same time
   */
  record Wide(String kernel, int packed, int sharedBytes, int blocks) {
    /** Threads: a warpgroup that fetches and two that multiply. */
    private static final int BLOCK = 384;

    static Wide sm90(int dHead, int blocks) {
      int stages = 256 / dHead;
      int sharedBytes = 1024 + 512 * dHead + stages * (512 * dHead + 32);
      return new Wide("attention_sm90_" + dHead, 128, sharedBytes, blocks);
    }
  }

  /**
   * A step's work, block by block, and what launches depend on of it.
   *
   * @param tiles the first {@code wide} and {@code whole} as {first row, rows, sequence, position
   *     of the first row}, the others as {row, first place in the scratch, sequence, position}
   * @param own of each of those others, the first split that it does not share
   * @param shared what they share, their tiles counted from the first of them
   */
  record Work(List<int[]> tiles, int[] own, List<Cascade.Part> shared, Shape shape) {
    /**
     * All but the numbers of tiles are 0 or powers of two, so that a recorded step is right for a
     * long while as contexts grow and as what is shared changes.
     *
     * @param wide tiles of spans of several rows, where the form has a kernel of its own for them
     * @param whole other tiles that a block works on alone
     * @param split spans of one row whose keys are split over blocks
     * @param extent blocks for each of them, at least the splits that it does not share
     * @param shared blocks for what is shared, at least its parts; 0 if nothing is
     * @param depth blocks for each of these, at least its splits
     */
    record Shape(int wide, int whole, int split, int extent, int shared, int depth) {
      /** The first tile whose keys are split. */
      int firstSplit() {
        return wide + whole;
      }
    }

    /**
     * Places that cover every step with one row for each sequence, unless most pages are shared by
     * more than four of them.
     */
    static long places(int pages, int sequences) {
      return pages * (long) PLACES_A_PAGE + sequences;
    }

    /** Four times what a page needs that one sequence has. */
    static final int PLACES_A_PAGE = 4 * KvCache.PAGE / Split.KEYS;
  }

  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final Form form;
  private final AttentionBytes bytes;
  private final int places; // of the scratch
  private final int mostParts; // of what is shared
  private final Buffer partials; // [places, n_heads, d_head + 4] f32, or null
  private final Buffer arrived; // [rows, n_kv_heads] int, 0 between launches; or null
  private final float scale;
  private final Buffer inverseFrequencies; // [d_head / 2] f32
  private final Kernel biasNorm;
  private final Kernel ropeAppend;
  private final Kernel ropeAppendRows; // null: all by ropeAppend
  private final Kernel attention;
  private final Kernel split;
  private final Kernel shared;
  private final Kernel wide;
  private final Kernel pattern;
  private final int ropeParts; // blocks that share the heads of a row
  private final int ropeRowsParts; // likewise of ROPE_ROWS rows

  // Of the step whose work was found last: each takes the memory of the one before.
  private final List<int[]> tilePool = new ArrayList<>();
  private int tilesMade; // taken from it
  private final List<int[]> wideTiles = new ArrayList<>();
  private final List<int[]> wholeTiles = new ArrayList<>();
  private final List<int[]> splitTiles = new ArrayList<>();
  private final List<int[]> allTiles = new ArrayList<>();

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
    Cascade cascade = parts == null ? null : parts.cascade();
    this.shared = cascade == null ? null : device.kernel(cascade.kernel());
    this.mostParts = limits.sequences();
    this.wide = form.wide() == null ? null : device.kernel(form.wide().kernel());
    this.places =
        parts == null ? 0 : Math.toIntExact(Work.places(limits.pages(), limits.sequences()));
    this.partials = parts == null ? null : scope.allocate(places * form.placeBytes(config));
    this.arrived = parts == null ? null : scope.of(new int[limits.rows() * config.nKvHeads()]);
    this.pattern = device.kernel("attention_pattern" + suffix);
    // On the CPU each part would compute its row's angles for no gain.
    boolean hasParts = device.kind().equals("cuda");
    int threads = ropeThreads(config, type);
    this.ropeParts = hasParts ? ropeParts(config, BLOCK / threads) : 1;
    this.ropeRowsParts = ropeParts(config, ROPE_BLOCK / ROPE_ROWS / threads);
    boolean goesByRows = hasParts && threads <= ROPE_BLOCK / ROPE_ROWS;
    this.ropeAppendRows = goesByRows ? device.kernel("rope_append_rows" + suffix) : null;
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

  /** Threads of a head that have one pack of 16 bytes of either half each. */
  private static int ropeThreads(ModelConfig config, DType type) {
    int pack = 16 / type.bytes();
    int pairs = config.dHead() / 2;
    return pairs % pack == 0 ? pairs / pack : pairs;
  }

  /** Blocks that share a row's heads. */
  private static int ropeParts(ModelConfig config, int headsAtOnce) {
    return Math.ceilDiv(config.nHeads() + 2 * config.nKvHeads(), Math.max(1, headsAtOnce));
  }

  /** Rotates q and k in place and appends k and v to the cache at the rows' positions. */
  void rotateAndAppend(Buffer qkv, int rows, StepTables step, KvCache cache, int layer) {
    rotateAndAppend(qkv, rows, HeadChanges.NONE, step, cache, layer);
  }

  /** {@link #biasAndNorm} and the above in one launch, with the bits of both. */
  void rotateAndAppend(
      Buffer qkv, int rows, HeadChanges changes, StepTables step, KvCache cache, int layer) {
    int heads = 2 * config.nHeads() + 5 * config.nKvHeads(); // reads and writes of one
    long moved = (long) rows * heads * config.dHead() * type.bytes();
    List<Object> arguments = new ArrayList<>();
    Collections.addAll(
        arguments,
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
    if (ropeAppendRows != null && rows >= ROPE_ROWS_FROM) {
      arguments.add(rows);
      Grid grid = Grid.of(Math.ceilDiv(rows, ROPE_ROWS), ropeRowsParts);
      int shared = 4 * (ROPE_ROWS * (config.dHead() + 2) + ROPE_BLOCK);
      device.launch(ropeAppendRows, moved, grid, ROPE_BLOCK, shared, arguments.toArray());
    } else {
      int shared = 4 * (config.dHead() + BLOCK);
      device.launch(
          ropeAppend, moved, Grid.of(rows, ropeParts), BLOCK, shared, arguments.toArray());
    }
  }

  /**
   * The work of {@link #attend}. Tiles have as many rows of a span as a block holds at once with
   * the heads of a group; the longest come first, since they see the most keys. Spans of one row
   * are split where the form can and the scratch has room, and what they share is found; that
   * changes no bits. (Not the last row of a longer span: the kernel may read all keys but the row's
   * own before this step has made them.) Valid until the next call, which takes its memory.
   *
   * @param cache whose pages tell what is shared
   * @param maySplit whether any are split: log-sum-exps are left by whole ones alone
   */
  Work work(Batch batch, KvCache cache, boolean maySplit) {
    int group = config.nHeads() / config.nKvHeads();
    tilesMade = 0;
    wideTiles.clear();
    wholeTiles.clear();
    splitTiles.clear();
    allTiles.clear();
    int place = 0;
    for (Batch.Span span : batch.spans()) {
      boolean isWide = wide != null && span.length() > 1;
      int most = Math.max(1, (isWide ? form.wide().packed() : form.packed()) / group);
      for (int i = 0; i < span.length(); i += most) {
        int rows = Math.min(most, span.length() - i);
        int position = span.position() + i;
        int splits = Split.count(position);
        if (isWide) {
          wideTiles.add(tile(span.firstRow() + i, rows, span.sequence(), position));
        } else if (maySplit && span.length() == 1 && splits <= places - place) {
          splitTiles.add(tile(span.firstRow() + i, place, span.sequence(), position));
          place += splits;
        } else {
          wholeTiles.add(tile(span.firstRow() + i, rows, span.sequence(), position));
        }
      }
    }
    Comparator<int[]> longestFirst = (a, b) -> Integer.compare(b[3] + b[1], a[3] + a[1]);
    wideTiles.sort(longestFirst);
    wholeTiles.sort(longestFirst);
    splitTiles.sort((a, b) -> Integer.compare(b[3], a[3]));
    List<Cascade.Part> parts =
        shared == null ? List.of() : form.split().cascade().parts(splitTiles, cache, mostParts);
    int[] own = new int[splitTiles.size()];
    int deepest = 0;
    for (Cascade.Part part : parts) { // those of many tiles come before those of some of them
      Arrays.fill(own, part.first(), part.first() + part.tiles(), part.to());
      deepest = Math.max(deepest, part.to() - part.from());
    }
    int longest = 0;
    for (int i = 0; i < own.length; i++) {
      longest = Math.max(longest, Split.count(splitTiles.get(i)[3]) - own[i]);
    }
    Work.Shape shape =
        new Work.Shape(
            wideTiles.size(),
            wholeTiles.size(),
            splitTiles.size(),
            powerOfTwo(longest),
            powerOfTwo(parts.size()),
            powerOfTwo(deepest));
    allTiles.addAll(wideTiles);
    allTiles.addAll(wholeTiles);
    allTiles.addAll(splitTiles);
    return new Work(allTiles, own, parts, shape);
  }

  /** A tile, in memory that one of an earlier step had. */
  private int[] tile(int row, int rowsOrPlace, int sequence, int position) {
    if (tilesMade == tilePool.size()) {
      tilePool.add(new int[4]);
    }
    int[] tile = tilePool.get(tilesMade++);
    tile[0] = row;
    tile[1] = rowsOrPlace;
    tile[2] = sequence;
    tile[3] = position;
    return tile;
  }

  /** The least power of two that is no less, or 0. */
  private static int powerOfTwo(int n) {
    return n < 2 ? n : Integer.highestOneBit(n - 1) << 1;
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
    if (work.wide() > 0) {
      attendWide(z, logSum, qkv, work, step, cache, layer, edits);
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
        step.tiles.slice(16L * work.wide()),
        config.nHeads(),
        config.nKvHeads(),
        config.dHead(),
        scale,
        window,
        edits.ranges(Site.Kind.Z, layer),
        edits.steering());
  }

  private void attendWide(
      Buffer z,
      Buffer logSum,
      Buffer qkv,
      Work.Shape work,
      StepTables step,
      KvCache cache,
      int layer,
      Edits edits) {
    int window = config.slidingWindow(layer);
    device.launch(
        wide,
        device.isProfiled()
            ? bytes.wide(step.work(), window) + (logSum == null ? 0 : logSum.bytes())
            : Profile.UNKNOWN,
        Grid.of(Math.min(work.wide() * config.nKvHeads(), form.wide().blocks())),
        Wide.BLOCK,
        form.wide().sharedBytes(),
        z,
        logSum,
        qkv,
        cache.maps().keys(layer),
        cache.maps().values(layer),
        cache.pageTable(),
        cache.pagesPerSequence(),
        step.tiles,
        work.wide(),
        config.nHeads(),
        config.nKvHeads(),
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
    Buffer tiles = step.tiles.slice(16L * work.firstSplit());
    if (work.shared() > 0) {
      device.launch(
          shared,
          device.isProfiled() ? bytes.shared(step.work(), window) : Profile.UNKNOWN,
          new Grid(work.shared(), config.nKvHeads(), work.depth()),
          BLOCK,
          form.split().cascade().sharedBytes(),
          partials,
          qkv,
          cache.keys(layer),
          cache.values(layer),
          cache.pageTable(),
          cache.pagesPerSequence(),
          tiles,
          step.shared,
          config.nHeads(),
          config.nKvHeads(),
          scale,
          window);
    }
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
        tiles,
        work.shared() > 0 ? step.own : null,
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
