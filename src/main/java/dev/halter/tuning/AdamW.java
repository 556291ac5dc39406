package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import java.util.Locale;

/**
 * A slice of a weight matrix as AdamW moves it ({@code adamw.cu}): an f32 master copy, two moments
 * and nothing of the rest of the matrix.
 */
final class AdamW {
  private static final int BLOCK = 256;

  private final Device device;
  private final Matrix weight; // [rows, columns] where it lies
  private final int rows;
  private final int columns;
  private final Buffer master; // [rows, columns] f32, as the next three
  private final Buffer gradient;
  private final Buffer first;
  private final Buffer second;
  private final Buffer squares; // [rows]
  private final Kernel step;
  private final Kernel squaresOfRows;

  /**
   * Begins with the weight as it is.
   *
   * @param scope that its buffers live in
   * @param weight the slice in its matrix, which may be written
   * @param gradient [rows, columns] f32
   */
  AdamW(Scope scope, Matrix weight, int rows, int columns, Buffer gradient) {
    this.device = scope.device();
    this.weight = weight;
    this.rows = rows;
    this.columns = columns;
    this.gradient = gradient;
    long bytes = 4L * rows * columns;
    this.master = scope.allocate(bytes);
    this.first = scope.allocate(bytes);
    this.second = scope.allocate(bytes);
    this.squares = scope.allocate(4L * rows);
    String type = weight.type().name().toLowerCase(Locale.ROOT);
    this.step = device.kernel("adamw_" + type);
    this.squaresOfRows = device.kernel("squares_of_rows");
    first.clear();
    second.clear();
    device.launch(
        device.kernel("read_slice_" + type),
        (4L + weight.type().bytes()) * rows * columns,
        Grid.of(rows),
        BLOCK,
        0,
        master,
        weight.buffer(),
        columns,
        weight.rowStride());
  }

  /** The sum of the squares of the gradient, rows added in order. */
  double squares() {
    long bytes = 4L * rows * (columns + 1);
    device.launch(squaresOfRows, bytes, Grid.of(rows), BLOCK, 0, squares, gradient, columns);
    double sum = 0;
    for (float row : squares.toFloats(rows)) {
      sum += row;
    }
    return sum;
  }

  /** Moves the slice and its weight by the gradient. */
  void step(Struct<AdamStep> by) {
    device.launch(
        step,
        (28L + weight.type().bytes()) * rows * columns,
        Grid.of(rows),
        BLOCK,
        0,
        weight.buffer(),
        master,
        first,
        second,
        gradient,
        columns,
        weight.rowStride(),
        by);
  }

  /** The slice as it is now, [rows, columns]. */
  float[] values() {
    return master.toFloats(rows * columns);
  }

  /** All that the next step depends on, each [rows, columns]. */
  record State(float[] master, float[] first, float[] second) {}

  State state() {
    int elements = rows * columns;
    return new State(values(), first.toFloats(elements), second.toFloats(elements));
  }

  /** Goes on from there. */
  void restore(State state) {
    master.set(state.master);
    first.set(state.first);
    second.set(state.second);
    String type = weight.type().name().toLowerCase(Locale.ROOT);
    device.launch(
        device.kernel("write_slice_" + type),
        (4L + weight.type().bytes()) * rows * columns,
        Grid.of(rows),
        BLOCK,
        0,
        weight.buffer(),
        master,
        columns,
        weight.rowStride());
  }
}
