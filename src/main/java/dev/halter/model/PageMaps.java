package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Tensor maps of a cache of bf16, by which {@code attention_sm90.cu} fetches pages; made when they
 * are first asked for.
 */
final class PageMaps {
  private static final int MAP_BYTES = 128;

  private final Device device;
  private final ModelConfig config;
  private final int heads; // of all pages
  private final List<Buffer> keys;
  private final List<Buffer> values;
  private final Arena arena = Arena.ofAuto();
  private final Map<Buffer, MemorySegment> made = new HashMap<>();

  PageMaps(Device device, ModelConfig config, int pages, List<Buffer> keys, List<Buffer> values) {
    this.device = device;
    this.config = config;
    this.heads = Math.multiplyExact(pages, config.nKvHeads());
    this.keys = keys;
    this.values = values;
  }

  /** Of a layer's keys: [pages n_kv_heads d_head, {@value KvCache#PAGE}], a box for a KV head. */
  MemorySegment keys(int layer) {
    return made.computeIfAbsent(
        keys.get(layer), buffer -> map(buffer, config.dHead(), KvCache.PAGE));
  }

  /** Of a layer's values: [pages n_kv_heads {@value KvCache#PAGE}, d_head]. */
  MemorySegment values(int layer) {
    return made.computeIfAbsent(
        values.get(layer), buffer -> map(buffer, KvCache.PAGE, config.dHead()));
  }

  /** Of a matrix of which a page's KV head takes {@code rows} rows. */
  private MemorySegment map(Buffer buffer, int rows, int columns) {
    MemorySegment map = arena.allocate(MAP_BYTES, 64);
    Matrix matrix = new Matrix(buffer, DType.BF16, columns);
    device.encodeTensorMap(map, matrix, Math.multiplyExact(heads, rows), columns, rows);
    return map;
  }
}
