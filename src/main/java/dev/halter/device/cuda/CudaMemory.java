package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuMemAlloc;
import static jcuda.driver.JCudaDriver.cuMemFree;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoDAsync;
import static jcuda.driver.JCudaDriver.cuMemsetD8Async;

import dev.halter.device.Arrival;
import dev.halter.device.Buffer;
import dev.halter.device.BufferMemory;
import dev.halter.device.HostCopy;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.Scope;
import java.lang.foreign.MemorySegment;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import jcuda.driver.CUresult;

/** The card's memory: what is allocated of it, and the ways in and out. */
final class CudaMemory implements BufferMemory, AutoCloseable {
  private final Context context;
  private final Streams streams;
  private final Staging staging;
  private final Staging uploads;
  private final Downloads downloads;
  private final Set<Long> allocations = new HashSet<>();

  /**
   * Prepares the ways.
   *
   * @param scope that their host memory lives in
   */
  CudaMemory(Context context, Streams streams, Scope scope) {
    this.context = context;
    this.streams = streams;
    this.staging = scope.add(new Staging(streams.work));
    this.uploads = scope.add(new Staging(streams.uploads));
    this.downloads = scope.add(new Downloads(context, streams));
  }

  /** See {@link CudaDevice#allocate}. */
  Buffer allocate(long bytes) {
    if (bytes < 0) {
      throw new IllegalArgumentException("cannot allocate " + bytes + " bytes");
    }
    streams.bindOutsideRecord("an allocation");
    Address address = new Address();
    int status = cuMemAlloc(address, Math.max(1, bytes));
    if (status == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
      throw new OutOfDeviceMemoryException(bytes, context.memory());
    }
    Driver.check(status, "allocating " + bytes + " bytes");
    allocations.add(address.value());
    return new Buffer(this, address.value(), bytes);
  }

  /** See {@link CudaDevice#upload}. */
  Buffer upload(MemorySegment host) {
    Buffer buffer = allocate(host.byteSize());
    try {
      uploads.up(List.of(host), buffer.address());
      uploads.hold(streams.work);
    } catch (RuntimeException | Error e) {
      free(buffer.address());
      throw e;
    }
    return buffer;
  }

  @Override
  public void copyIn(MemorySegment from, long toAddress, long bytes) {
    copyIn(List.of(from.asSlice(0, bytes)), toAddress);
  }

  @Override
  public void copyIn(List<MemorySegment> parts, long toAddress) {
    streams.bindOutsideRecord("a copy from the host");
    staging.up(parts, toAddress);
  }

  @Override
  public void copyOut(long fromAddress, MemorySegment to, long bytes) {
    if (bytes > 0) {
      copyOut(fromAddress, List.of(HostCopy.over(to.asSlice(0, bytes), 0))).await();
    }
  }

  @Override
  public Arrival copyOut(long fromAddress, List<HostCopy> copies) {
    streams.bindOutsideRecord("a copy to the host");
    return downloads.begin(fromAddress, copies);
  }

  @Override
  public void copyWithin(long fromAddress, long toAddress, long bytes) {
    context.bind();
    if (bytes > 0) {
      Driver.check(
          cuMemcpyDtoDAsync(new Address(toAddress), new Address(fromAddress), bytes, streams.work),
          "copying within the card");
    }
  }

  @Override
  public void clear(long address, long bytes) {
    context.bind();
    if (bytes > 0) {
      Driver.check(
          cuMemsetD8Async(new Address(address), (byte) 0, bytes, streams.work), "clearing memory");
    }
  }

  /** Waits for queued work first, which may still use the memory. */
  @Override
  public void free(long address) {
    if (!context.isOpen() || !allocations.contains(address)) {
      return; // freed together with the device, or before
    }
    streams.bindOutsideRecord("freeing memory");
    streams.synchronize();
    downloads.finish();
    allocations.remove(address);
    Driver.check(cuMemFree(new Address(address)), "freeing memory");
  }

  /** Frees what is left, once nothing uses it any more. */
  @Override
  public void close() {
    downloads.finish();
    allocations.forEach(address -> cuMemFree(new Address(address)));
    allocations.clear();
  }
}
