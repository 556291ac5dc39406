package dev.halter.device;

/** A device for tests that fails when it is told to. */
public final class FailingDevice extends ForwardingDevice {
  private volatile RuntimeException failure;

  /** Over {@code device}, which is closed with this. */
  public FailingDevice(Device device) {
    super(device);
  }

  /** Every launch from now on throws this; null for none. */
  public void failWith(RuntimeException newFailure) {
    failure = newFailure;
  }

  @Override
  public boolean recordsGraphs() {
    return false; // so that every launch comes by here
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    failIfTold();
    super.launch(kernel, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    failIfTold();
    super.launch(kernel, bytes, grid, block, sharedBytes, arguments);
  }

  private void failIfTold() {
    RuntimeException now = failure;
    if (now != null) {
      throw now;
    }
  }
}
