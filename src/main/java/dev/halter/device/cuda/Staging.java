package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventDestroy;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;
import static jcuda.driver.JCudaDriver.cuMemAllocHost;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemcpyHtoDAsync;
import static jcuda.driver.JCudaDriver.cuStreamWaitEvent;

import java.lang.foreign.MemorySegment;
import java.util.List;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUstream;

/**
 * Two halves of pinned host memory through which copies to the card go.
 *
 * <p>While the card fetches one half, the other is filled, so a mapped file of any size reaches the
 * card with its pages read ahead of the transfer and without a second copy in host memory. Small
 * copies pack one behind the other; the host waits only when both halves are still in flight.
 */
final class Staging implements AutoCloseable {
  static final int HALF = 16 << 20;
  private static final int ALIGNMENT = 256;

  private final CUstream stream;
  private final Address pinned = new Address();
  private final MemorySegment memory;
  private final CUevent[] fetched = {new CUevent(), new CUevent()};
  private final CUevent copied = new CUevent();
  private int half;
  private int used;

  Staging(CUstream stream) {
    this.stream = stream;
    Driver.check(cuMemAllocHost(pinned, 2L * HALF), "allocating pinned host memory");
    memory = MemorySegment.ofAddress(pinned.value()).reinterpret(2L * HALF);
    try {
      for (CUevent event : List.of(fetched[0], fetched[1], copied)) {
        Driver.check(
            cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING), "creating an event");
      }
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /**
   * Queues a copy to the card of parts that come to lie one behind another: a copy for all that a
   * half holds, since each costs the host microseconds. On return all have been read.
   */
  void up(List<MemorySegment> parts, long to) {
    int begin = used;
    for (MemorySegment part : parts) {
      for (long done = 0; done < part.byteSize(); ) {
        if (used == HALF) {
          to = send(begin, to);
          turn();
          begin = 0;
        }
        long some = Math.min(HALF - used, part.byteSize() - done);
        MemorySegment.copy(part, done, memory, (long) half * HALF + used, some);
        done += some;
        used += (int) some;
      }
    }
    send(begin, to);
    used = Math.min(HALF, (used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  }

  /** Queues the copy of what has been filled from {@code begin} on; returns where the next goes. */
  private long send(int begin, long to) {
    long bytes = (long) used - begin;
    if (bytes > 0) {
      Address from = new Address(memory.address() + (long) half * HALF + begin);
      Driver.check(cuMemcpyHtoDAsync(new Address(to), from, bytes, stream), "copying to the card");
    }
    return to + bytes;
  }

  /** What is queued on {@code other} from here on waits for the copies queued so far. */
  void hold(CUstream other) {
    Driver.check(cuEventRecord(copied, stream), "recording an event");
    Driver.check(cuStreamWaitEvent(other, copied, 0), "waiting for an event");
  }

  private void turn() {
    Driver.check(cuEventRecord(fetched[half], stream), "recording an event");
    half = 1 - half;
    used = 0;
    Driver.check(cuEventSynchronize(fetched[half]), CudaDevice.QUEUED);
  }

  @Override
  public void close() {
    for (CUevent event : List.of(fetched[0], fetched[1], copied)) {
      cuEventDestroy(event);
    }
    cuMemFreeHost(pinned);
  }
}
