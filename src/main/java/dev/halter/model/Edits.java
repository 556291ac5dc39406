package dev.halter.model;

import dev.halter.device.Buffer;
import java.util.List;

/**
 * The steering of a step's rows as kernels take it.
 *
 * @param table null if no row is steered
 * @param slots [rows] steering slot of each row; likewise may be null
 * @param changes [rows, stride] f32: what edits changed; likewise may be null
 */
record Edits(SteeringTable table, Buffer slots, Buffer changes) {
  static final Edits NONE = new Edits(null, null, null);

  /** The table of a site, or null where no slot steers it. */
  Buffer ranges(Site.Kind kind, int layer) {
    return table == null ? null : table.ranges(kind, layer);
  }

  /** Edits of a site that the host queues. */
  List<QueuedEdit> queued(Site.Kind kind, int layer) {
    return table == null ? List.of() : table.queued(kind, layer);
  }

  Buffer ops() {
    return table == null ? null : table.ops();
  }

  int stride() {
    return table == null ? 1 : table.reportStride();
  }
}
