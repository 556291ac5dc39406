package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import java.util.Arrays;
import java.util.BitSet;
import java.util.stream.IntStream;

/**
 * The Gram matrix D·Dᵀ [n, n] f32 of a dictionary on its device. Its rows are made when they are
 * first needed, many at a time, and stay: what has never been used costs nothing but address space.
 */
final class Gram implements AutoCloseable {
  /** Rows made by one product. */
  private static final int TOGETHER = 256;

  private final Dictionary dictionary;
  private final Device device;
  private final Scope scope;
  private final Buffer matrix;
  private final BitSet made = new BitSet();
  private final Buffer flags; // I32 [n], of what has been made
  private final Buffer indices;
  private final Buffer atoms;
  private final Buffer rows;

  /** Room for the matrix of a dictionary, which must outlive it. */
  Gram(Dictionary dictionary) {
    this.dictionary = dictionary;
    this.device = dictionary.device();
    this.scope = device.scope();
    int together = Math.min(TOGETHER, dictionary.size());
    try {
      this.matrix = scope.allocate(bytes(dictionary.size()));
      this.indices = scope.allocate(4L * together);
      this.atoms = scope.allocate(4L * together * dictionary.width());
      this.rows = scope.allocate(4L * together * dictionary.size());
      this.flags = scope.of(new int[dictionary.size()]);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** Bytes of the matrix of n atoms. */
  static long bytes(int n) {
    return 4L * n * n;
  }

  /** The matrix [n, n]; only rows that were required hold anything. */
  Buffer matrix() {
    return matrix;
  }

  /** The matrix if all of its rows have been made, else null. */
  Buffer complete() {
    return made.cardinality() == dictionary.size() ? matrix : null;
  }

  /** I32 [n], not 0 for atoms whose rows have been made; null if all have. */
  Buffer made() {
    return complete() == null ? flags : null;
  }

  /** Makes all rows. */
  void requireAll() {
    if (complete() == null) {
      require(IntStream.range(0, dictionary.size()));
    }
  }

  /** Queues making the rows of these atoms, where they have not been made. */
  void require(IntStream needed) {
    int[] missing = needed.filter(atom -> !made.get(atom)).distinct().sorted().toArray();
    int n = dictionary.size();
    int d = dictionary.width();
    for (int from = 0; from < missing.length; from += TOGETHER) {
      int[] piece = Arrays.copyOfRange(missing, from, Math.min(missing.length, from + TOGETHER));
      indices.set(piece);
      device.launch(
          device.kernel("gather_rows"),
          Grid.of(piece.length),
          256,
          0,
          atoms,
          dictionary.atoms(),
          indices,
          d);
      device.multiply(
          piece.length,
          n,
          d,
          new Matrix(atoms, DType.F32, d),
          dictionary.matrix(),
          new Matrix(rows, DType.F32, n));
      for (int i = 0; i < piece.length; i++) {
        matrix.slice(4L * piece[i] * n).copyFrom(rows.slice(4L * i * n, 4L * n));
        made.set(piece[i]);
      }
    }
    if (missing.length > 0 && complete() == null) {
      flags.set(IntStream.range(0, n).map(atom -> made.get(atom) ? 1 : 0).toArray());
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
