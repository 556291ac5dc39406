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

/**
 * Attention between its products: biases and QK norm, rotation and cache, and softmax(q kᵀ) v
 * ({@code cuda-kernels/qkv.cu}, {@code attention.cu}, {@code attention_pattern.cu}).
 */
final class Attention implements AutoCloseable {
  private static final int BLOCK = 256;

  // Constants of attention.cu.
  private static final int PACKED = 16;
  private static final int LANES = 16;

  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final Buffer inverseFrequencies; // [d_head / 2] f32
  private final Kernel biasNorm;
  private final Kernel ropeAppend;
  private final Kernel attention;

  Attention(Device device, ModelConfig config, DType type) {
    this.device = device;
    this.config = config;
    this.type = type;
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.biasNorm = device.kernel("qkv_bias_norm" + suffix);
    this.ropeAppend = device.kernel("rope_append" + suffix);
    this.attention = device.kernel("attention" + suffix);
    float[] frequencies = config.inverseFrequencies();
    this.inverseFrequencies = device.allocate(4L * frequencies.length);
    inverseFrequencies.set(frequencies);
  }

  /**
   * The work of a batch's attention: {first row, rows, sequence, position of the first row} of
   * consecutive tokens of one sequence. A block serves one tile for one KV head and holds {@value
   * #PACKED} query rows at once; a row's result does not depend on its tile.
   */
  List<int[]> tiles(Batch batch) {
    int group = config.nHeads() / config.nKvHeads();
    int most = Math.max(1, PACKED / group);
    List<int[]> tiles = new ArrayList<>();
    for (Batch.Span span : batch.spans()) {
      for (int i = 0; i < span.length(); i += most) {
        int rows = Math.min(most, span.length() - i);
        tiles.add(new int[] {span.firstRow() + i, rows, span.sequence(), span.position() + i});
      }
    }
    return tiles;
  }

  /** Adds the biases to qkv and normalises q and k by head, where the family has these. */
  void biasAndNorm(Buffer qkv, int rows, Buffer bias, Buffer qNorm, Buffer kNorm) {
    if (bias == null && qNorm == null) {
      return;
    }
    device.launch(
        biasNorm,
        Grid.of(rows),
        BLOCK,
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

  /** Rotates q and k of qkv in place, and appends k and v to the cache. */
  void rotateAndAppend(Buffer qkv, int rows, StepTables step, KvCache cache, int layer) {
    device.launch(
        ropeAppend,
        Grid.of(rows),
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

  /** z [rows, n_heads d_head] of all tiles, with the head edits of {@code ranges}. */
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
      int reportStride) {
    int d = config.dHead();
    int shared = 4 * PACKED * (2 * d + KvCache.PAGE + 2 * LANES + 4);
    device.launch(
        attention,
        Grid.of(tiles, config.nKvHeads()),
        BLOCK,
        shared,
        z,
        qkv,
        cache.keys(layer),
        cache.values(layer),
        cache.pageTable(),
        cache.pagesPerSequence(),
        step.tiles,
        config.nHeads(),
        config.nKvHeads(),
        d,
        (float) (1 / Math.sqrt(d)),
        config.slidingWindow(layer),
        step.slots,
        ranges,
        ops,
        changes,
        reportStride);
  }

  /**
   * Softmax patterns of a span's queries, [n_heads, rows, keys] with keys = position + rows, zero
   * where a query does not see a key. Its keys must be in the cache already.
   */
  float[] pattern(Buffer qkv, Batch.Span span, KvCache cache, int layer) {
    throw new IllegalStateException("attention_pattern is being written");
  }

  @Override
  public void close() {
    inverseFrequencies.close();
  }
}
