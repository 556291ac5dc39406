package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * What pursuits from a Gram matrix keep beside {@link SparseRows}, by row: {@code SparsePursuit} of
 * {@code cuda-kernels/sparse_pursue.cuh}.
 *
 * @param start [rows, n]
 * @param correlations [rows, n]
 * @param inverse [rows, capacity, capacity] f64
 * @param right [rows, capacity] f64
 * @param dots [rows, capacity + 2, PIECES] f64
 * @param along [rows, capacity] f64
 * @param exact [rows, warps] f64
 * @param keys [rows, warps] 64 bits each
 * @param seconds [rows, warps]
 * @param chosen [rows, warps]
 */
record SparsePursuit(
    Buffer start,
    Buffer correlations,
    Buffer inverse,
    Buffer right,
    Buffer dots,
    Buffer along,
    Buffer exact,
    Buffer keys,
    Buffer seconds,
    Buffer chosen,
    int warps) {
  private static final int PIECES = 4;

  /** Room for pursuits over n atoms, by teams of at most so many warps. */
  static Struct<SparsePursuit> allocate(Scope scope, int rows, int n, int capacity, int warps) {
    long codes = (long) rows * capacity;
    long each = (long) rows * warps;
    return new Struct<>(
        new SparsePursuit(
            scope.allocate(4L * rows * n),
            scope.allocate(4L * rows * n),
            scope.allocate(8 * codes * capacity),
            scope.allocate(8 * codes),
            scope.allocate(8L * PIECES * rows * (capacity + 2)),
            scope.allocate(8 * codes),
            scope.allocate(8 * each),
            scope.allocate(8 * each),
            scope.allocate(4 * each),
            scope.allocate(4 * each),
            warps));
  }

  /** Bytes of a row. */
  static long bytes(int n, int capacity, int warps) {
    return 8L * n
        + 8L * capacity * capacity
        + 16L * capacity
        + 8L * PIECES * (capacity + 2)
        + 24L * warps;
  }
}
