package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;

/**
 * The k largest logits of each row and the log-sum-exp of all, kept while a vocabulary passes tile
 * by tile ({@code cuda-kernels/top_tokens.cu}).
 */
public final class TopTokens implements AutoCloseable {
  /** Most tokens kept per row. */
  public static final int MAX_K = 64;

  private static final int BLOCK = 256;

  private final Device device;
  private final Kernel kernel;
  private final int k;
  private final Buffer ids; // [rows, k]
  private final Buffer values; // [rows, k]
  private final Buffer logZ; // [rows, 2]: maximum, sum of exponentials

  /** What was kept of {@code rows} rows: ids and logits [rows, k] best first, logZ [rows]. */
  public record Kept(int[] ids, float[] logits, float[] logZ) {}

  /** Room for {@code rows} rows. */
  public TopTokens(Device device, int rows, int k) {
    if (k < 1 || k > MAX_K) {
      throw new IllegalArgumentException("top " + k + " tokens; 1 to " + MAX_K + " can be kept");
    }
    this.device = device;
    this.kernel = device.kernel("top_tokens");
    this.k = k;
    this.ids = device.allocate(4L * rows * k);
    this.values = device.allocate(4L * rows * k);
    this.logZ = device.allocate(8L * rows);
  }

  /**
   * Takes in a tile of logits.
   *
   * @param logits [rows, columns] f32 with {@code stride} floats from row to row
   * @param firstId token id of the tile's first column; 0 starts anew
   * @param sign what to multiply the logits by: 1 or -1
   */
  public void take(Buffer logits, int rows, int columns, long stride, int firstId, float sign) {
    int fresh = firstId == 0 ? 1 : 0;
    device.launch(
        kernel,
        Grid.of(rows),
        BLOCK,
        0,
        ids,
        values,
        logZ,
        logits,
        stride,
        columns,
        firstId,
        k,
        sign,
        fresh);
  }

  /** Reads what was kept of the first {@code rows} rows. */
  public Kept kept(int rows) {
    float[] sums = logZ.toFloats(2 * rows);
    float[] z = new float[rows];
    for (int row = 0; row < rows; row++) {
      z[row] = (float) (sums[2 * row] + Math.log(sums[2 * row + 1]));
    }
    return new Kept(ids.toInts(rows * k), values.toFloats(rows * k), z);
  }

  @Override
  public void close() {
    ids.close();
    values.close();
    logZ.close();
  }
}
