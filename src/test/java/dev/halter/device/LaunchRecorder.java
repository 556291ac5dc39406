package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A GPU of which only the launches are of interest: they are counted, nothing runs, memory is
 * addresses alone and reads as zeros, so that a model of any size passes over it.
 */
public final class LaunchRecorder extends ForwardingDevice {
  /**
   * What is launched; of a product the shape is its name.
   *
   * @param bytes that each moves, {@link Profile#UNKNOWN} where nobody tells
   */
  public record Launch(String kernel, Grid grid, int block, int sharedBytes, long bytes) {}

  private final int multiprocessors;
  private final Map<Launch, Integer> launches = new LinkedHashMap<>();
  private long end = 1L << 40;

  /** A card of sm_90 with the kernels of {@code device}, which is closed with this. */
  public LaunchRecorder(Device device, int multiprocessors) {
    super(device);
    this.multiprocessors = multiprocessors;
  }

  /** How often each was launched since this was asked last, in the order of the first. */
  public Map<Launch, Integer> launches() {
    Map<Launch, Integer> counted = new LinkedHashMap<>(launches);
    launches.clear();
    return counted;
  }

  private void count(String name, Grid grid, int block, int sharedBytes, long bytes) {
    launches.merge(new Launch(name, grid, block, sharedBytes, bytes), 1, Integer::sum);
  }

  @Override
  public int multiprocessors() {
    return multiprocessors;
  }

  @Override
  public boolean runsSm90() {
    return true;
  }

  /** Nobody reads what is described. */
  @Override
  public void encodeTensorMap(
      MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {}

  @Override
  public boolean isProfiled() {
    return true;
  }

  @Override
  public Buffer allocate(long bytes) {
    Buffer buffer = new Buffer(new Zeros(), end, bytes);
    end += (bytes + 255) / 256 * 256;
    return buffer;
  }

  @Override
  public Buffer upload(MemorySegment host) {
    return allocate(host.byteSize());
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    launch(kernel, Profile.UNKNOWN, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    kernel.pack(arguments); // which checks them
    count(kernel.name(), grid, block, sharedBytes, bytes);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    long bytes =
        (long) m * k * x.type().bytes()
            + (long) n * k * w.type().bytes()
            + (long) m * n * out.type().bytes();
    count("product %d x %d x %d".formatted(m, n, k), Grid.of(1), 0, 0, bytes);
  }

  @Override
  public void synchronize() {}

  private static final class Zeros implements BufferMemory {
    @Override
    public void copyIn(MemorySegment from, long toAddress, long bytes) {}

    @Override
    public void copyOut(long fromAddress, MemorySegment to, long bytes) {
      to.asSlice(0, bytes).fill((byte) 0);
    }

    @Override
    public void copyWithin(long fromAddress, long toAddress, long bytes) {}

    @Override
    public void clear(long address, long bytes) {}

    @Override
    public void free(long address) {}
  }
}
