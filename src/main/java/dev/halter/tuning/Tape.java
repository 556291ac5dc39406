package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.Map;

/** Keeps activations of a forward pass for the backward pass: f32 copies on the device. */
final class Tape implements SiteHook {
  private final Scope scope;
  private final Map<Site, Kept> kept = new HashMap<>();
  private final Map<Site.Kind, Buffer> shared = new EnumMap<>(Site.Kind.class);
  private final int most;
  private int rows;
  private long bytes;

  private record Kept(Buffer buffer, int width) {}

  /** For up to {@code most} rows; its buffers live in {@code scope}. */
  Tape(Scope scope, int most) {
    this.scope = scope;
    this.most = most;
  }

  /**
   * Keeps a site from now on.
   *
   * @param width of the rows that it lies in: q's rows hold k and v as well, gate's up
   */
  void keep(Site.Kind kind, int layer, int width) {
    kept.put(new Site(kind, layer), new Kept(allocate(width), width));
  }

  /** As {@link #keep}, until the next layer comes that shares the kind's buffer. */
  void share(Site.Kind kind, int layer, int width) {
    Buffer buffer = shared.computeIfAbsent(kind, first -> allocate(width));
    kept.put(new Site(kind, layer), new Kept(buffer, width));
  }

  private Buffer allocate(int width) {
    bytes += 4L * most * width;
    return scope.allocate(4L * most * width);
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
  public boolean wants(Site site) {
    return kept.containsKey(site);
  }

  @Override
  public void at(Site site, Matrix values) {
    Kept to = kept.get(site);
    if (values.rowStride() != to.width) {
      throw new IllegalStateException(
          "%s comes in rows of %d, not %d".formatted(site, values.rowStride(), to.width));
    }
    to.buffer.copyFrom(values.buffer().slice(0, 4L * rows * to.width));
  }
}
