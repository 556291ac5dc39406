package dev.halter.device;

/**
 * {@link Device#multiplyTop} for any device: tiles of the product go through a buffer to kernel
 * {@code top_tokens}. Devices with something faster have it as their check, and as their fallback.
 */
public final class TiledTop implements AutoCloseable {
  /** Columns that the kernel sums up at a time: tiles of whole pieces do not change its sums. */
  private static final int PIECE = 1024;

  private static final int BLOCK = 256;

  private final Device device;
  private final int rows;
  private final int columns;
  private Buffer tile;

  /** Tiles of up to 64 MiB. */
  public TiledTop(Device device) {
    this(device, 4096, 4 * PIECE);
  }

  /**
   * Tiles of another size; results do not depend on it.
   *
   * @param columns a multiple of 1,024
   */
  public TiledTop(Device device, int rows, int columns) {
    if (rows < 1 || columns < PIECE || columns % PIECE != 0) {
      throw new IllegalArgumentException("no tiles of " + rows + " x " + columns);
    }
    this.device = device;
    this.rows = rows;
    this.columns = columns;
  }

  /** See {@link Device#multiplyTop}. The first calls allocate the tile: not within a graph. */
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Top top) {
    top.require(m, n, k, x, w);
    long bytes = 4L * Math.min(rows, m) * Math.min(columns, n);
    if (tile == null || tile.bytes() < bytes) {
      close();
      tile = device.allocate(bytes);
    }
    for (int row = 0; row < m; row += rows) {
      int height = Math.min(rows, m - row);
      for (int id = 0; id < n; id += columns) {
        int width = Math.min(columns, n - id);
        device.multiply(
            height, width, k, x.from(row), w.from(id), new Matrix(tile, DType.F32, width));
        select(tile, height, width, width, id, top.from(row));
      }
    }
  }

  /**
   * Queues taking in a tile of rows: {@code height} x {@code width} f32 whose first column has id
   * {@code firstId}; 0 starts anew.
   */
  void select(Buffer entries, int height, int width, long stride, int firstId, Top top) {
    device.launch(
        device.kernel("top_tokens"),
        4L * height * width,
        Grid.of(height),
        Math.min(BLOCK, (width + 31) / 32 * 32),
        0,
        top.ids(),
        top.values(),
        top.logSum(),
        entries,
        stride,
        width,
        firstId,
        top.kept(),
        top.sign().number(),
        firstId == 0 ? 1 : 0);
  }

  @Override
  public void close() {
    if (tile != null) {
      tile.close();
      tile = null;
    }
  }
}
