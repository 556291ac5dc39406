package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Struct;
import java.util.List;

/**
 * The steering of a step's rows as kernels take it.
 *
 * @param table null if no row is steered
 * @param layout of the table, for which this is made: {@link SteeringTable#layout}
 */
record Edits(SteeringTable table, int layout, Struct<Steering> steering) {
  /** No row is steered. */
  static final Edits NONE = new Edits(null, null, null);

  /**
   * Those of a table.
   *
   * @param slots [rows] steering slot of each row; may be null where {@code table} is
   * @param changes [rows, stride] f32: what edits changed; likewise
   */
  Edits(SteeringTable table, Buffer slots, Buffer changes) {
    this(
        table,
        table == null ? 0 : table.layout(),
        new Struct<>(
            table == null
                ? new Steering(slots, null, changes, 1)
                : new Steering(slots, table.ops(), changes, table.reportStride())));
  }

  /** Whether this is of a table as it is now. */
  boolean isOf(SteeringTable now) {
    return table == now && (now == null || layout == now.layout());
  }

  /** The table of a site, or null where no slot steers it. */
  Buffer ranges(Site.Kind kind, int layer) {
    return table == null ? null : table.ranges(kind, layer);
  }

  /** Edits of a site that the host queues. */
  List<QueuedEdit> queued(Site.Kind kind, int layer) {
    return table == null ? List.of() : table.queued(kind, layer);
  }
}
