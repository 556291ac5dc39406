package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * The codes of a batch on the device, by row: {@code SparseCodes} of {@code
 * cuda-kernels/sparse.cuh}.
 *
 * @param support I32 [rows, capacity]: the atoms of each row
 * @param coefficients f32 [rows, capacity]: of unit atoms, on the scale of x
 * @param sizes I32 [rows]: number of atoms of each row; 0 where there is no code
 * @param iterations I32 [rows]: rounds of each row
 * @param measures f64 [rows, 3]: objective on x/‖x‖, norm of the residual on the scale of x,
 *     largest violation of the optimality conditions on x/‖x‖; as in {@link Code}
 * @param capacity most atoms of a code
 */
public record SparseCodes(
    Buffer support,
    Buffer coefficients,
    Buffer sizes,
    Buffer iterations,
    Buffer measures,
    int capacity) {

  /** Room for the codes of {@code coded}, of so many rows. */
  static Struct<SparseCodes> allocate(Scope scope, int rows, SparseRows coded) {
    long codes = (long) rows * coded.capacity();
    return new Struct<>(
        new SparseCodes(
            scope.allocate(4 * codes),
            scope.allocate(4 * codes),
            scope.allocate(4L * rows),
            coded.iterations(),
            scope.allocate(24L * rows),
            coded.capacity()));
  }

  /** Bytes of a row. */
  static long bytes(int capacity) {
    return 8L * capacity + 28;
  }
}
