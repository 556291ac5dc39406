package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * A device for tests that can be made to refuse one allocation, and knows which buffers are open.
 *
 * <pre>{@code
 * try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2))) {
 *   device.assertNothingLeaks(() -> Llama.load(folder, device, type, limits).close());
 * }
 * }</pre>
 */
public final class ScarceDevice implements Device {
  private static final int NEVER = -1;

  private final Device device;
  private final Set<Long> open = new HashSet<>(); // numbers of allocations
  private long allocations;
  private int left = NEVER; // allocations until one is refused

  /** Over {@code device}, which is closed with this. */
  public ScarceDevice(Device device) {
    this.device = device;
  }

  /** Buffers that are open. */
  public int buffers() {
    return open.size();
  }

  /**
   * Runs {@code work} with its first allocation refused, then with its second, and so on until it
   * makes no more. Each time but the last it must fail for lack of memory, in the words that users
   * get; no buffer may be left that was not there before.
   *
   * @param work closes what it makes
   * @return how many allocations it makes
   */
  public int assertNothingLeaks(Runnable work) {
    int before = buffers();
    for (int refused = 1; ; refused++) {
      left = refused;
      RuntimeException failure = null;
      try {
        work.run();
      } catch (RuntimeException e) {
        failure = e;
      }
      boolean done = left > 0;
      left = NEVER;
      String where = "with allocation " + refused + " refused";
      if (done) {
        if (failure != null) {
          throw failure;
        }
        assertEquals(before, buffers(), "buffers left by work that succeeds");
        assertTrue(refused > 1, "the work allocates nothing");
        return refused - 1;
      }
      assertTrue(failure != null, "nothing failed " + where);
      assertTrue(failure.getMessage().contains("out of device memory: "), where + ": " + failure);
      assertEquals(before, buffers(), "buffers left " + where);
    }
  }

  private void count(long bytes) {
    if (left > 0 && --left == 0) {
      throw new OutOfDeviceMemoryException(bytes, device.memory());
    }
  }

  private Buffer counted(Buffer buffer) {
    long number = allocations++;
    open.add(number);
    BufferMemory memory = buffer.memory();
    return new Buffer(
        new BufferMemory() {
          @Override
          public void copyIn(MemorySegment from, long toAddress, long bytes) {
            memory.copyIn(from, toAddress, bytes);
          }

          @Override
          public void copyOut(long fromAddress, MemorySegment to, long bytes) {
            memory.copyOut(fromAddress, to, bytes);
          }

          @Override
          public void copyWithin(long fromAddress, long toAddress, long bytes) {
            memory.copyWithin(fromAddress, toAddress, bytes);
          }

          @Override
          public void clear(long address, long bytes) {
            memory.clear(address, bytes);
          }

          @Override
          public void free(long address) {
            assertTrue(open.remove(number), "a buffer was freed twice");
            memory.free(address);
          }
        },
        buffer.address(),
        buffer.bytes());
  }

  @Override
  public Buffer allocate(long bytes) {
    count(bytes);
    return counted(device.allocate(bytes));
  }

  @Override
  public Buffer upload(MemorySegment host) {
    count(host.byteSize());
    return counted(device.upload(host));
  }

  @Override
  public String description() {
    return device.description();
  }

  @Override
  public String kind() {
    return device.kind();
  }

  @Override
  public List<String> details() {
    return device.details();
  }

  @Override
  public Memory memory() {
    return device.memory();
  }

  @Override
  public DType weightType(DType file, DType activations) {
    return device.weightType(file, activations);
  }

  @Override
  public boolean sharesHostMemory() {
    return device.sharesHostMemory();
  }

  @Override
  public boolean mixesTypes() {
    return device.mixesTypes();
  }

  @Override
  public boolean wantsLargePieces() {
    return device.wantsLargePieces();
  }

  @Override
  public boolean recordsGraphs() {
    return device.recordsGraphs();
  }

  @Override
  public Kernel kernel(String name) {
    return device.kernel(name);
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    device.launch(kernel, grid, block, sharedBytes, arguments);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    device.multiply(m, n, k, x, w, out);
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    device.multiplyTop(m, n, k, x, w, top);
  }

  @Override
  public Graph record(Runnable work) {
    return device.record(work);
  }

  @Override
  public void synchronize() {
    device.synchronize();
  }

  @Override
  public void close() {
    device.close();
  }
}
