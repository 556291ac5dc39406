package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * Atoms that could matter, by place in the list of live rows: {@code SparseCandidates} of {@code
 * cuda-kernels/sparse.cuh}.
 *
 * @param ids [rows, lists, kept]
 * @param values [rows, lists, kept]
 * @param exact [rows, lists, kept] f64
 */
record SparseCandidates(Buffer ids, Buffer values, Buffer exact, int lists, int kept) {

  static Struct<SparseCandidates> allocate(Scope scope, int rows, int lists, int kept) {
    long entries = (long) rows * lists * kept;
    return new Struct<>(
        new SparseCandidates(
            scope.allocate(4 * entries),
            scope.allocate(4 * entries),
            scope.allocate(8 * entries),
            lists,
            kept));
  }

  /** Bytes of a row. */
  static long bytes(int lists, int kept) {
    return 16L * lists * kept;
  }
}
