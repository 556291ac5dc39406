package dev.halter.device;

/**
 * A device for tests that counts the tokens a model reads on it, and the blocks it runs for them.
 */
public final class CountingDevice extends ForwardingDevice {
  private int tokens;
  private int blocks;

  /** Over {@code device}, which is closed with this. */
  public CountingDevice(Device device) {
    super(device);
  }

  /** Tokens since this was asked last. */
  public int tokens() {
    int counted = tokens;
    tokens = 0;
    return counted;
  }

  /**
   * Blocks that tokens have gone through since this was asked last: of each token all of its own.
   */
  public int blocks() {
    int counted = blocks;
    blocks = 0;
    return counted;
  }

  @Override
  public boolean recordsGraphs() {
    return false; // so that the launches of each step are seen
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    count(kernel, grid, arguments);
    super.launch(kernel, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    count(kernel, grid, arguments);
    super.launch(kernel, bytes, grid, block, sharedBytes, arguments);
  }

  private void count(Kernel kernel, Grid grid, Object[] arguments) {
    tokens += kernel.name().startsWith("embed") ? grid.x() : 0;
    if (kernel.name().startsWith("rope_append_rows")) { // one of each block, as is the other
      blocks += (int) arguments[arguments.length - 1];
    } else if (kernel.name().startsWith("rope_append")) {
      blocks += grid.x();
    }
  }
}
