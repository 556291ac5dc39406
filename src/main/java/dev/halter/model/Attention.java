package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
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
final class Attention implements AutoCloseable {
  private static final int BLOCK = 128;

  /** The portable kernel is bounded by its shared memory. */
  private static final int MAX_D_HEAD = 256;

  /**
   * The kernel that computes z; all have the same arguments.
   *
   * @param packed most rows of a tile times query heads of a group
   * @param sharedBytes dynamic shared memory
   */
  record Form(String kernel, int packed, int sharedBytes) {
    private static final String PROPERTY = "halter.attention";

    /** {@code attention.cu}: every device, type and shape. */
    static Form portable(ModelConfig config, DType type) {
      int packed = 16;
      int lanes = 16;
      int floats = packed * (2 * config.dHead() + KvCache.PAGE + 2 * lanes + 4);
      return new Form("attention_" + type.name().toLowerCase(Locale.ROOT), packed, 4 * floats);
    }

    /** {@code attention_sm80.cu}: tensor cores, where {@link #fitsSm80}. */
    static Form sm80(ModelConfig config) {
      int dHead = config.dHead();
      return new Form("attention_sm80_" + dHead, 64, 4 * KvCache.PAGE * dHead);
    }

    static boolean fitsSm80(ModelConfig config, DType type) {
      int dHead = config.dHead();
      int group = config.nHeads() / config.nKvHeads();
      return type == DType.BF16 && (dHead == 64 || dHead == 128) && group <= 64;
    }

    /**
     * The form that {@code -Dhalter.attention} asks for. {@code auto}, the default, is the
     * tensor-core form on CUDA devices for models that it fits (every CUDA device that Halter has
     * kernels for is sm_80 or later): measured 2.6 times as fast in a prefill and 1.7 times in
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

  private final Device device;
  private final ModelConfig config;
  private final Form form;
  private final float scale;
  private final Buffer inverseFrequencies; // [d_head / 2] f32
  private final Kernel biasNorm;
  private final Kernel ropeAppend;
  private final Kernel attention;
  private final Kernel pattern;
  private final int ropeParts; // blocks that share the heads of a row

  /**
   * Prepares the kernels.
   *
   * @param type of the activations: f32 or bf16
   * @throws IllegalArgumentException if d_head is odd or over 256
   */
  Attention(Device device, ModelConfig config, DType type) {
    this(device, config, type, Form.of(device, config, type));
  }

  Attention(Device device, ModelConfig config, DType type, Form form) {
    int dHead = config.dHead();
    if (dHead % 2 != 0 || dHead > MAX_D_HEAD) {
      throw new IllegalArgumentException(
          "d_head is %d: attention takes even ones up to %d".formatted(dHead, MAX_D_HEAD));
    }
    this.device = device;
    this.config = config;
    this.form = form;
    this.scale = (float) (1 / Math.sqrt(dHead));
    this.inverseFrequencies = device.allocate(2L * dHead);
    inverseFrequencies.set(config.inverseFrequencies());
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.biasNorm = device.kernel("qkv_bias_norm" + suffix);
    this.ropeAppend = device.kernel("rope_append" + suffix);
    this.attention = device.kernel(form.kernel());
    this.pattern = device.kernel("attention_pattern" + suffix);
    // On the CPU each part would compute its row's angles for no gain.
    this.ropeParts = device.kind().equals("cuda") ? ropeParts(config, type) : 1;
  }

  /**
   * Adds the biases and normalises each q and k head, in place. Each of the three may be null, and
   * both norms are or neither is.
   *
   * @param bias [(n_heads + 2 n_kv_heads) d_head] f32
   * @param qNorm gain [d_head] f32 of q's RMSNorm, likewise {@code kNorm}
   */
  void biasAndNorm(Buffer qkv, int rows, Buffer bias, Buffer qNorm, Buffer kNorm) {
    if (bias == null && qNorm == null && kNorm == null) {
      return;
    }
    Grid grid = Grid.of(rows, config.nHeads() + 2 * config.nKvHeads());
    device.launch(
        biasNorm,
        grid,
        32,
        0,
        qkv,
        bias,
        qNorm,
        kNorm,
        (float) config.rmsNormEps(),
        config.nHeads(),
        config.nKvHeads(),
        config.dHead());
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
    device.launch(
        ropeAppend,
        Grid.of(rows, ropeParts),
        BLOCK,
        4 * config.dHead(),
        qkv,
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
   * The work of {@link #attend}, block by block: {first row, rows, sequence, position of the first
   * row}. Tiles have as many rows of a span as a block holds at once with the heads of a group; the
   * longest come first, since they see the most keys.
   */
  List<int[]> tiles(Batch batch) {
    int most = Math.max(1, form.packed() / (config.nHeads() / config.nKvHeads()));
    List<int[]> tiles = new ArrayList<>();
    for (Batch.Span span : batch.spans()) {
      for (int i = 0; i < span.length(); i += most) {
        int rows = Math.min(most, span.length() - i);
        tiles.add(new int[] {span.firstRow() + i, rows, span.sequence(), span.position() + i});
      }
    }
    tiles.sort((a, b) -> Integer.compare(b[3] + b[1], a[3] + a[1]));
    return tiles;
  }

  /**
   * z = softmax(q kᵀ / √d_head) v, with the head edits of the site made to it.
   *
   * @param z [rows, n_heads d_head], written
   * @param tiles how many of the step's tiles
   * @param ranges the site's table of edits, or null; likewise {@code ops}
   * @param changes [rows, stride] f32: what edits changed
   */
  void attend(
      Buffer z,
      Buffer qkv,
      int tiles,
      StepTables step,
      KvCache cache,
      int layer,
      Buffer ranges,
      Buffer ops,
      Buffer changes,
      int stride) {
    device.launch(
        attention,
        Grid.of(tiles, config.nKvHeads()),
        BLOCK,
        form.sharedBytes(),
        z,
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
        config.slidingWindow(layer),
        step.slots,
        ranges,
        ops,
        changes,
        stride);
  }

  /** {@link #pattern(Buffer, Batch.Span, KvCache, int, int[])} of all heads. */
  float[] pattern(Buffer qkv, Batch.Span span, KvCache cache, int layer) {
    return pattern(qkv, span, cache, layer, IntStream.range(0, config.nHeads()).toArray());
  }

  /**
   * Attention patterns for the rows of a span, whose keys must be in the cache: [heads, rows, keys]
   * with keys = position + length of the span; 0 where a row does not see a key.
   *
   * @param heads query heads
   */
  float[] pattern(Buffer qkv, Batch.Span span, KvCache cache, int layer, int[] heads) {
    int keys = span.position() + span.length();
    int count = Math.multiplyExact(Math.multiplyExact(heads.length, span.length()), keys);
    try (Buffer out = device.allocate(4L * count);
        Buffer list = device.allocate(4L * heads.length)) {
      list.set(heads);
      device.launch(
          pattern,
          Grid.of(span.length(), heads.length),
          BLOCK,
          4 * config.dHead(),
          out,
          qkv,
          cache.keys(layer),
          cache.pageTable(),
          cache.pagesPerSequence(),
          list,
          span.firstRow(),
          span.length(),
          span.sequence(),
          span.position(),
          keys,
          config.nHeads(),
          config.nKvHeads(),
          config.dHead(),
          scale,
          config.slidingWindow(layer));
      return out.toFloats(count);
    }
  }

  @Override
  public void close() {
    inverseFrequencies.close();
  }
}
