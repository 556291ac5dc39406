package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
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
  private final Buffer matrix;
  private final BitSet made = new BitSet();
  private final Buffer wanted;
  private final Buffer atoms;
  private final Buffer rows;

  /** Room for the matrix of a dictionary, which must outlive it. */
  public Gram(Dictionary dictionary) {
    this.dictionary = dictionary;
    this.device = dictionary.device();
    int together = Math.min(TOGETHER, dictionary.size());
    this.matrix = device.allocate(bytes(dictionary.size()));
    this.wanted = device.allocate(4L * together);
    this.atoms = device.allocate(4L * together * dictionary.width());
    this.rows = device.allocate(4L * together * dictionary.size());
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

  /** Makes all rows. */
  void requireAll() {
    if (complete() == null) {
      require(IntStream.range(0, dictionary.size()));
    }
  }

  /** Queues making the rows of these atoms, where they have not been made. */
  void require(IntStream indices) {
    int[] missing = indices.filter(atom -> !made.get(atom)).distinct().sorted().toArray();
    int n = dictionary.size();
    int d = dictionary.width();
    for (int from = 0; from < missing.length; from += TOGETHER) {
      int[] some = Arrays.copyOfRange(missing, from, Math.min(missing.length, from + TOGETHER));
      wanted.set(some);
      device.launch(
          device.kernel("gather_rows"),
          Grid.of(some.length),
          256,
          0,
          atoms,
          dictionary.atoms(),
          wanted,
          d);
      device.multiply(
          some.length,
          n,
          d,
          new Matrix(atoms, DType.F32, d),
          dictionary.matrix(),
          new Matrix(rows, DType.F32, n));
      for (int i = 0; i < some.length; i++) {
        matrix.slice(4L * some[i] * n).copyFrom(rows.slice(4L * i * n, 4L * n));
        made.set(some[i]);
      }
    }
  }

  @Override
  public void close() {
    matrix.close();
    wanted.close();
    atoms.close();
    rows.close();
  }
}
