package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.Map;

/** Keeps activations of a forward pass for the backward pass: copies on the device. */
final class Tape implements SiteHook {
  private final Scope scope;
  private final Map<Site, Kept> kept = new HashMap<>();
  private final Map<Site.Kind, Buffer> shared = new EnumMap<>(Site.Kind.class);
  private final int most;
  private final Map<Integer, Kept> logSums = new HashMap<>();
  private Kept sharedLogSums;
  private int rows;
  private long bytes;

  private record Kept(Buffer buffer, DType type, int width) {}

  /** For up to {@code most} rows; its buffers live in {@code scope}. */
  Tape(Scope scope, int most) {
    this.scope = scope;
    this.most = most;
  }

  /**
   * Keeps a site from now on.
   *
   * @param type that it comes in
   * @param width of the rows that it lies in: q's rows hold k and v as well, gate's up
   */
  void keep(Site.Kind kind, int layer, DType type, int width) {
    kept.put(new Site(kind, layer), new Kept(allocate(type, width), type, width));
  }

  /** As {@link #keep}, until the next layer comes that shares the kind's buffer. */
  void share(Site.Kind kind, int layer, DType type, int width) {
    Buffer buffer = shared.computeIfAbsent(kind, first -> allocate(type, width));
    kept.put(new Site(kind, layer), new Kept(buffer, type, width));
  }

  /** Keeps the log-sum-exps of a layer's attention, likewise shared or not. */
  void keepLogSums(int layer, int heads, boolean isShared) {
    if (!isShared) {
      logSums.put(layer, new Kept(allocate(DType.F32, heads), DType.F32, heads));
      return;
    }
    if (sharedLogSums == null) {
      sharedLogSums = new Kept(allocate(DType.F32, heads), DType.F32, heads);
    }
    logSums.put(layer, sharedLogSums);
  }

  private Buffer allocate(DType type, int width) {
    long size = (long) type.bytes() * most * width;
    bytes += size;
    return scope.allocate(size);
  }

  /** Bytes that it takes. */
  long bytes() {
    return bytes;
  }

  /** Begins a pass of so many rows. */
  void begin(int count) {
    rows = count;
  }

  /** What the last pass had at a site, [rows, width]; whoever needs it no more may overwrite it. */
  Buffer of(Site.Kind kind, int layer) {
    return kept.get(new Site(kind, layer)).buffer;
  }

  @Override
  public Buffer logSums(int layer) {
    Kept of = logSums.get(layer);
    return of == null ? null : of.buffer.slice(0, 4L * rows * of.width);
  }

  @Override
  public boolean wants(Site site) {
    return kept.containsKey(site);
  }

  @Override
  public void at(Site site, Matrix values) {
    Kept to = kept.get(site);
    if (values.rowStride() != to.width || values.type() != to.type) {
      throw new IllegalStateException(
          "%s comes in rows of %d %s, not %d %s"
              .formatted(site, values.rowStride(), values.type(), to.width, to.type));
    }
    to.buffer.copyFrom(values.buffer().slice(0, (long) to.type.bytes() * rows * to.width));
  }
}
