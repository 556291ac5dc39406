package dev.halter.device;

import java.lang.foreign.MemorySegment;

/**
 * A device that only counts what would be allocated on another: whatever takes its buffers from a
 * scope is made on this one first, to see whether it fits. Launches and copies do nothing.
 */
public final class PlanningDevice extends ForwardingDevice {
  private long bytes;

  /** For plans of {@code device}, which stays open. */
  public PlanningDevice(Device device) {
    super(device);
  }

  /** Bytes asked for so far. */
  public long bytes() {
    return bytes;
  }

  @Override
  public Buffer allocate(long more) {
    bytes += more;
    return new Buffer(new Nowhere(), 0, more);
  }

  @Override
  public Buffer upload(MemorySegment host) {
    return allocate(host.byteSize());
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {}

  @Override
  public void launch(
      Kernel kernel, long moved, Grid grid, int block, int sharedBytes, Object... arguments) {}

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {}

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {}

  @Override
  public void close() {}

  /** What is written goes nowhere, so nothing can be read. */
  private static final class Nowhere implements BufferMemory {
    @Override
    public void copyIn(MemorySegment from, long toAddress, long bytes) {}

    @Override
    public void copyOut(long fromAddress, MemorySegment to, long bytes) {
      throw new IllegalStateException("a plan has no values");
    }

    @Override
    public void copyWithin(long fromAddress, long toAddress, long bytes) {}

    @Override
    public void clear(long address, long bytes) {}

    @Override
    public void free(long address) {}
  }
}
