package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Struct;

/**
 * Edits of the residual stream that a kernel would make by itself, did they not stand between
 * queued ones ({@code cuda-kernels/steer_rows.cu}).
 */
final class RowEdits implements QueuedEdit {
  private static final int BLOCK = 256;

  private final Device device;
  private final Kernel steerRows;
  private final Buffer ranges;
  private final Buffer ops;

  /**
   * Makes them.
   *
   * @param ranges and {@code ops} as in {@link SteeringTable}, whose scope they live in
   */
  RowEdits(Device device, Buffer ranges, Buffer ops) {
    this.device = device;
    this.steerRows = device.kernel("steer_rows");
    this.ranges = ranges;
    this.ops = ops;
  }

  /** Gives a slot operations from {@code begin} up to {@code end}. */
  void set(int slot, int begin, int end) {
    ranges.slice(8L * slot, 8).set(begin, end);
  }

  @Override
  public boolean solves(int slot) {
    return false;
  }

  @Override
  public void enqueue(Rows rows) {
    device.launch(
        steerRows,
        Grid.of(rows.count()),
        BLOCK,
        0,
        rows.x(),
        rows.d(),
        ranges,
        new Struct<>(new Steering(rows.slots(), ops, rows.changes(), rows.stride())));
  }
}
