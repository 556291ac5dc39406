package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * The working sets of an elastic net, by row: {@code SparseWorking} of {@code
 * cuda-kernels/sparse_active_set.cu}.
 *
 * @param gram [rows, capacity, capacity]
 * @param factor [rows, capacity, capacity] f64
 * @param work [rows, 2, capacity] f64
 * @param active [rows, capacity + 1]
 */
record SparseWorking(Buffer gram, Buffer factor, Buffer work, Buffer active) {

  static Struct<SparseWorking> allocate(Scope scope, int rows, int capacity) {
    long codes = (long) rows * capacity;
    return new Struct<>(
        new SparseWorking(
            scope.allocate(4 * codes * capacity),
            scope.allocate(8 * codes * capacity),
            scope.allocate(16 * codes),
            scope.allocate(4 * (codes + rows))));
  }

  /** Bytes of a row. */
  static long bytes(int capacity) {
    return 12L * capacity * capacity + 16L * capacity + 4L * (capacity + 1);
  }
}
