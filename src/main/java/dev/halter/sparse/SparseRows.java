package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import java.lang.foreign.MemorySegment;
import java.util.stream.IntStream;

/**
 * A batch while it is coded, by row: {@code SparseRows} of {@code cuda-kernels/sparse.cuh}, which
 * says what the fields hold.
 *
 * @param z [rows, d]
 * @param residual [rows, d]
 * @param norms [rows] f64
 * @param states [rows]
 * @param counts [rows]
 * @param iterations [rows]
 * @param violations [rows] f64
 * @param slack [rows]
 * @param ids [rows, capacity]
 * @param coefficients [rows, capacity] f64
 */
record SparseRows(
    Buffer z,
    Buffer residual,
    Buffer norms,
    Buffer states,
    Buffer counts,
    Buffer iterations,
    Buffer violations,
    Buffer slack,
    Buffer ids,
    Buffer coefficients,
    int capacity,
    int d) {

  // States of a row.
  static final int RUNNING = 0;
  static final int DONE = 1;
  static final int NOT_FINITE = 2;
  static final int FULL = 3;

  /** Room for so many rows with up to {@code capacity} atoms each. */
  static Struct<SparseRows> allocate(Scope scope, int rows, int capacity, int d) {
    long codes = (long) rows * capacity;
    return new Struct<>(
        new SparseRows(
            scope.allocate(4L * rows * d),
            scope.allocate(4L * rows * d),
            scope.allocate(8L * rows),
            scope.allocate(4L * rows),
            scope.allocate(4L * rows),
            scope.allocate(4L * rows),
            scope.allocate(8L * rows),
            scope.allocate(4L * rows),
            scope.allocate(4 * codes),
            scope.allocate(8 * codes),
            capacity,
            d));
  }

  /** Bytes of a row. */
  static long bytes(int capacity, int d) {
    return 8L * d + 32 + 12L * capacity;
  }

  /** The rows from first to end that are not done. */
  int[] running(int first, int end) {
    int[] stateOf = states.toInts(end);
    return IntStream.range(first, end).filter(row -> stateOf[row] == RUNNING).toArray();
  }

  /**
   * The atoms whose coefficients are not 0.
   *
   * @param rows whose; the last is the highest
   */
  IntStream inUse(int[] rows) {
    int end = rows[rows.length - 1] + 1;
    int[] countOf = counts.toInts(end);
    int[] atoms = ids.toInts(end * capacity);
    double[] weights = new double[end * capacity];
    coefficients.copyTo(MemorySegment.ofArray(weights));
    return IntStream.of(rows)
        .flatMap(row -> IntStream.range(row * capacity, row * capacity + countOf[row]))
        .filter(at -> weights[at] != 0)
        .map(at -> atoms[at]);
  }
}
