package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * What pursuits from a Gram matrix keep beside {@link SparseRows}, by row: {@code SparsePursuit} of
 * {@code cuda-kernels/sparse_pursue.cuh}.
 *
 * @param start [rows, n]
 * @param sure BOOL [rows, n]; null where no start is rough
 * @param correlations [rows, n]
 * @param working [rows, {@link #numbers}] f64
 * @param exact [rows, warps] f64
 * @param chosen [rows, warps]
 */
record SparsePursuit(
    Buffer start,
    Buffer sure,
    Buffer correlations,
    Buffer working,
    Buffer exact,
    Buffer chosen,
    int warps) {

  private static final int PIECES = 4;
  private static final int POSTS = 3;

  /** Most bytes of shared memory for a block's working memory. */
  private static final int MOST_SHARED = 48 * 1024;

  /**
   * Room for pursuits over n atoms, by teams of at most so many warps.
   *
   * @param rough whether starts may be rough
   */
  static Struct<SparsePursuit> allocate(
      Scope scope, int rows, int n, int capacity, int warps, boolean rough) {
    long each = (long) rows * warps;
    return new Struct<>(
        new SparsePursuit(
            scope.allocate(4L * rows * n),
            rough ? scope.allocate((long) rows * n) : null,
            scope.allocate(4L * rows * n),
            scope.allocate(8L * rows * numbers(capacity, warps)),
            scope.allocate(8 * each),
            scope.allocate(4 * each),
            warps));
  }

  /** Numbers of a block's working memory, {@code PursuitMemory}. */
  private static long numbers(int capacity, int warps) {
    long inverse = capacity * (capacity + 1L) / 2;
    return inverse + 4L * capacity + (capacity + 2L) * PIECES + POSTS + 4L * warps;
  }

  /** Bytes of shared memory of a block; 0 where its working memory is too large for that. */
  static int sharedBytes(int capacity, int warps) {
    long bytes = 8 * numbers(capacity, warps);
    return bytes <= MOST_SHARED ? (int) bytes : 0;
  }

  /** Bytes of a row. */
  static long bytes(int n, int capacity, int warps, boolean rough) {
    return (rough ? 9L : 8L) * n + 8 * numbers(capacity, warps) + 12L * warps;
  }
}
