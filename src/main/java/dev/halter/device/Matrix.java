package dev.halter.device;

/**
 * A row-major matrix in device memory.
 *
 * @param rowStride elements from one row to the next, at least the number of columns used
 */
public record Matrix(Buffer buffer, DType type, long rowStride) {

  /** The rows from {@code row} on. */
  public Matrix from(int row) {
    return new Matrix(buffer.slice(row * rowStride * type.bytes()), type, rowStride);
  }

  /**
   * Checks that the buffer holds this many rows and columns.
   *
   * @param name what the message calls the matrix
   * @throws IllegalArgumentException if not
   */
  public void requireHolds(String name, int rows, int columns) {
    long elements = (rows - 1) * rowStride + columns;
    if (rowStride < columns || elements > buffer.bytes() / type.bytes()) {
      throw new IllegalArgumentException(
          "%s of %d x %d with row stride %d does not fit its buffer of %d bytes"
              .formatted(name, rows, columns, rowStride, buffer.bytes()));
    }
  }
}
