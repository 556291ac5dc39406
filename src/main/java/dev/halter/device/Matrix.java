package dev.halter.device;

/**
 * A matrix in device memory: row-major, or column-major if it is transposed.
 *
 * @param rowStride elements from one row of the memory to the next, at least the elements used of
 *     one
 * @param transposed whether a row of the memory is a column of the matrix
 */
public record Matrix(Buffer buffer, DType type, long rowStride, boolean transposed) {

  /** A row-major matrix. */
  public Matrix(Buffer buffer, DType type, long rowStride) {
    this(buffer, type, rowStride, false);
  }

  /** The same memory read the other way: rows become columns. */
  public Matrix transpose() {
    return new Matrix(buffer, type, rowStride, !transposed);
  }

  /** The rows from {@code row} on. */
  public Matrix from(int row) {
    long elements = transposed ? row : row * rowStride;
    return new Matrix(buffer.slice(elements * type.bytes()), type, rowStride, transposed);
  }

  /** The columns from {@code column} on. */
  public Matrix columnsFrom(int column) {
    return transpose().from(column).transpose();
  }

  /**
   * Checks that the buffer holds this many rows and columns.
   *
   * @param name what the message calls the matrix
   * @throws IllegalArgumentException if not
   */
  public void requireHolds(String name, int rows, int columns) {
    int lines = transposed ? columns : rows;
    int used = transposed ? rows : columns;
    long elements = (lines - 1) * rowStride + used;
    if (rowStride < used || elements > buffer.bytes() / type.bytes()) {
      throw new IllegalArgumentException(
          "%s of %d x %d with row stride %d does not fit its buffer of %d bytes"
              .formatted(name, rows, columns, rowStride, buffer.bytes()));
    }
  }

  /**
   * Checks the shapes of {@link Device#multiply}.
   *
   * @throws IllegalArgumentException if a size is below 1, a matrix does not fit its buffer, or
   *     {@code out} is transposed
   */
  public static void requireProduct(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    if (m < 1 || n < 1 || k < 1) {
      throw new IllegalArgumentException("no product of %d x %d x %d".formatted(m, n, k));
    }
    if (out.transposed) {
      throw new IllegalArgumentException("a product is written row by row, not transposed");
    }
    x.requireHolds("x", m, k);
    w.requireHolds("w", n, k);
    out.requireHolds("out", m, n);
  }
}
