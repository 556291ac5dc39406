package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.util.HashSet;
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
public final class ScarceDevice extends ForwardingDevice {
  private static final int NEVER = -1;

  private final Set<Long> open = new HashSet<>(); // numbers of allocations
  private long bytes;
  private long allocations;
  private Memory claimed; // null for the true one
  private int left = NEVER; // allocations until one is refused
  private long refused = NEVER; // bytes of allocations that are always

  /** Over {@code device}, which is closed with this. */
  public ScarceDevice(Device device) {
    super(device);
  }

  /** Says from now on that so much is free, though it allocates what it can. */
  public void claimFree(long bytes) {
    claimed = new Memory(bytes, bytes);
  }

  @Override
  public Memory memory() {
    return claimed == null ? super.memory() : claimed;
  }

  /** Refuses the next allocation. */
  public void refuseNext() {
    left = 1;
  }

  /** Refuses every allocation of so many bytes from now on. */
  public void refuseAll(long bytes) {
    refused = bytes;
  }

  /** Buffers that are open. */
  public int buffers() {
    return open.size();
  }

  /** Bytes of all that are open. */
  public long bytes() {
    return bytes;
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
    if (left > 0 && --left == 0 || bytes == refused) {
      throw new OutOfDeviceMemoryException(bytes, device.memory());
    }
  }

  private Buffer counted(Buffer buffer) {
    long number = allocations++;
    open.add(number);
    bytes += buffer.bytes();
    return new Buffer(
        new ForwardingMemory(buffer.memory()) {
          @Override
          public void free(long address) {
            assertTrue(open.remove(number), "a buffer was freed twice");
            bytes -= buffer.bytes();
            super.free(address);
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
}
