package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventDestroy;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;
import static jcuda.driver.JCudaDriver.cuMemAllocHost;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoHAsync;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;
import static jcuda.driver.JCudaDriver.cuStreamWaitEvent;

import dev.halter.device.Arrival;
import dev.halter.device.DeviceException;
import dev.halter.device.HostCopy;
import java.lang.foreign.MemorySegment;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUstream;

/**
 * The ways from the card to the host: what is small at once, what is large piece by piece, by
 * threads of which each has a lane of its own.
 *
 * <p>A thread fetches its piece into the lane's pinned memory and copies it to where it belongs,
 * while the card fills the lanes of others. PCIe 5 brings 50 GB/s, a thread copies 10 at best and
 * less into memory that the system has yet to give: so several keep up where one does not. One
 * thread that waited for 32 MB at a time and copied them brought 1.6 GB/s of captures, the work on
 * the card standing still meanwhile.
 */
final class Downloads implements AutoCloseable {
  /** Bytes of a piece: 80 µs of PCIe 5. What is no larger is small. */
  static final int PIECE = 4 << 20;

  /** As many threads as keep up with PCIe. */
  private static final int THREADS = Math.clamp(Runtime.getRuntime().availableProcessors(), 2, 8);

  private final Context context;
  private final Streams streams;
  private final Address pinned = pinned();
  private final MemorySegment memory = memory(pinned);
  private final Deque<Lane> idle = new ConcurrentLinkedDeque<>();
  private final ExecutorService threads =
      Executors.newFixedThreadPool(
          THREADS, Thread.ofPlatform().daemon().name("halter-download-", 0).factory());
  private CompletableFuture<Void> all = CompletableFuture.completedFuture(null); // begun so far

  Downloads(Context context, Streams streams) {
    this.context = context;
    this.streams = streams;
  }

  private static Address pinned() {
    Address pinned = new Address();
    Driver.check(cuMemAllocHost(pinned, PIECE), "allocating pinned host memory");
    return pinned;
  }

  private static MemorySegment memory(Address pinned) {
    return MemorySegment.ofAddress(pinned.value()).reinterpret(PIECE);
  }

  private static CUevent event(int flags) {
    CUevent event = new CUevent();
    Driver.check(
        cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING | flags), "creating an event");
    return event;
  }

  private static void fetch(long from, Address into, long bytes, CUstream stream) {
    Driver.check(
        cuMemcpyDtoHAsync(into, new Address(from), bytes, stream), "copying from the card");
  }

  /** See {@link dev.halter.device.Buffer#send}. */
  Arrival begin(long address, List<HostCopy> copies) {
    long begin = copies.getFirst().from();
    long end = copies.getLast().from() + copies.getLast().bytes();
    if (end - begin <= PIECE) {
      fetch(address + begin, pinned, end - begin, streams.work);
      Driver.check(cuStreamSynchronize(streams.work), CudaDevice.QUEUED);
      MemorySegment part = memory.asSlice(0, end - begin);
      copies.forEach(copy -> copy.take(part, begin));
      return Arrival.PAST;
    }
    Download download = new Download(address, begin, end, copies);
    CompletableFuture<Void> done = download.start();
    all = CompletableFuture.allOf(all, done);
    return () -> {
      try {
        done.join();
      } catch (CompletionException e) {
        throw e.getCause() instanceof DeviceException known
            ? new DeviceException(known.getMessage(), known)
            : new DeviceException("copying to the host: " + e.getCause(), e.getCause());
      }
    };
  }

  /** A large copy. */
  private final class Download {
    private final long address;
    private final AtomicLong next; // byte that no piece has yet
    private final long end;
    private final List<HostCopy> copies;
    private final CUevent ready = event(0); // the work is done that it waits for

    Download(long address, long begin, long end, List<HostCopy> copies) {
      this.address = address;
      this.next = new AtomicLong(begin);
      this.end = end;
      this.copies = copies;
    }

    CompletableFuture<Void> start() {
      int status = cuEventRecord(ready, streams.work);
      long pieces = Math.ceilDiv(end - next.get(), PIECE);
      // Nobody helps with what cannot be waited for.
      CompletableFuture<?>[] helpers =
          Stream.generate(() -> CompletableFuture.runAsync(this::help, threads))
              .limit(status == 0 ? Math.min(pieces, THREADS) : 0)
              .toArray(CompletableFuture<?>[]::new);
      CompletableFuture<Void> done =
          CompletableFuture.allOf(helpers)
              .whenComplete((nothing, failure) -> cuEventDestroy(ready));
      Driver.check(status, "recording an event");
      return done;
    }

    /** Brings pieces until none is left. */
    private void help() {
      context.bind();
      Lane free = idle.poll();
      Lane lane = free == null ? new Lane() : free;
      try {
        for (long at = next.getAndAdd(PIECE); at < end; at = next.getAndAdd(PIECE)) {
          MemorySegment piece = lane.fetch(address + at, Math.min(PIECE, end - at), ready);
          for (HostCopy copy : copies) {
            copy.take(piece, at);
          }
        }
      } finally {
        idle.push(lane);
      }
    }
  }

  /** What a thread brings pieces through. */
  private static final class Lane {
    private final Address pinned = pinned();
    private final MemorySegment memory = memory(pinned);
    private final CUstream stream;
    private final CUevent arrived; // lets the thread sleep until then

    Lane() {
      try {
        stream = Streams.create();
      } catch (DeviceException e) {
        cuMemFreeHost(pinned);
        throw e;
      }
      try {
        arrived = event(CUevent_flags.CU_EVENT_BLOCKING_SYNC);
      } catch (DeviceException e) {
        cuStreamDestroy(stream);
        cuMemFreeHost(pinned);
        throw e;
      }
    }

    /** Bytes of the card, once {@code ready} has come; until the next call. */
    MemorySegment fetch(long from, long bytes, CUevent ready) {
      Driver.check(cuStreamWaitEvent(stream, ready, 0), "waiting for an event");
      Downloads.fetch(from, pinned, bytes, stream);
      Driver.check(cuEventRecord(arrived, stream), "recording an event");
      Driver.check(cuEventSynchronize(arrived), CudaDevice.QUEUED);
      return memory.asSlice(0, bytes);
    }

    void close() {
      cuEventDestroy(arrived);
      cuStreamDestroy(stream);
      cuMemFreeHost(pinned);
    }
  }

  /** Waits for all that was begun; whether it failed hears who awaits it. */
  void finish() {
    all.exceptionally(failure -> null).join();
  }

  @Override
  public void close() {
    threads.close();
    idle.forEach(Lane::close);
    cuMemFreeHost(pinned);
  }
}
