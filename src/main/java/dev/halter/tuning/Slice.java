package dev.halter.tuning;

import dev.halter.weights.TensorNames.Block;

/**
 * A part of a weight matrix [outputs, inputs] that is tuned: whole rows or whole columns of it.
 *
 * @param part the projection
 * @param row first of {@code rows}
 * @param column first of {@code columns}
 */
record Slice(int layer, Block part, int row, int rows, int column, int columns) implements Tuned {
  /** The name of its matrix in the checkpoint. */
  String tensor() {
    return part.weight(layer);
  }

  @Override
  public String name() {
    return "%s[%d:%d,%d:%d]".formatted(tensor(), row, row + rows, column, column + columns);
  }
}
