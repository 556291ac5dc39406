package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;

/**
 * A device that times everything that runs on another, piece by piece: {@code --profile}. Results
 * are the other's, bit for bit.
 *
 * <p>Nothing is recorded as a graph, whose insides could not be told apart: decode steps are queued
 * kernel by kernel, so that on CUDA the whole is slower than without a profile, by what the host
 * takes for its launches.
 */
public final class ProfiledDevice extends ForwardingDevice {
  private final Timer timer;
  private final Consumer<String> table;
  private final Profile profile = new Profile();
  private boolean closed;

  /**
   * Watches a device, which is closed with this.
   *
   * @param table hears the profile's table when this is closed, unless nothing ran
   */
  public ProfiledDevice(Device device, Consumer<String> table) {
    super(device);
    this.table = table;
    this.timer = device.timer();
  }

  /** What has run so far; waits for it. */
  public Profile profile() {
    timer.finish();
    return profile;
  }

  private void time(String name, long bytes, long operations, Runnable work) {
    timer.start();
    work.run();
    stop(name, bytes, operations);
  }

  private void stop(String name, long bytes, long operations) {
    Profile.Sum sum = profile.of(name);
    sum.count(bytes, operations);
    timer.stop(sum);
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    launch(kernel, Profile.UNKNOWN, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    timer.start();
    device.launch(kernel, grid, block, sharedBytes, arguments);
    stop(kernel.name(), bytes, Profile.UNKNOWN);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    long bytes = factors(m, n, k, x, w) + (long) m * n * out.type().bytes();
    time(
        name("product", n, k, x, w),
        bytes,
        operations(m, n, k),
        () -> device.multiply(m, n, k, x, w, out));
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    long lists = (long) m * top.sign().lists();
    long bytes =
        factors(m, n, k, x, w) + 8 * lists * top.kept() + (top.logSum() == null ? 0 : 8 * lists);
    time(
        name("product's top", n, k, x, w),
        bytes,
        operations(m, n, k),
        () -> device.multiplyTop(m, n, k, x, w, top));
  }

  private static String name(String what, int n, int k, Matrix x, Matrix w) {
    return "%s by [%d, %d] %s x %s"
        .formatted(what, n, k, x.type(), w.type())
        .toLowerCase(Locale.ROOT);
  }

  private static long factors(long m, long n, long k, Matrix x, Matrix w) {
    return m * k * x.type().bytes() + n * k * w.type().bytes();
  }

  private static long operations(long m, long n, long k) {
    return 2 * m * n * k;
  }

  /** Memory whose copies are timed. */
  private final class Watched extends ForwardingMemory {
    Watched(BufferMemory memory) {
      super(memory);
    }

    @Override
    public void copyIn(MemorySegment from, long toAddress, long bytes) {
      time(
          "copy to the device", bytes, Profile.UNKNOWN, () -> super.copyIn(from, toAddress, bytes));
    }

    @Override
    public void copyIn(List<MemorySegment> parts, long toAddress) {
      long bytes = parts.stream().mapToLong(MemorySegment::byteSize).sum();
      time("copy to the device", bytes, Profile.UNKNOWN, () -> super.copyIn(parts, toAddress));
    }

    @Override
    public void copyOut(long fromAddress, MemorySegment to, long bytes) {
      time(
          "copy from the device",
          bytes,
          Profile.UNKNOWN,
          () -> super.copyOut(fromAddress, to, bytes));
    }

    /** Waits for it, so that nothing else has its time. */
    @Override
    public Arrival copyOut(long fromAddress, List<HostCopy> copies) {
      long bytes = copies.stream().mapToLong(HostCopy::bytes).sum();
      time(
          "copy from the device",
          bytes,
          Profile.UNKNOWN,
          () -> super.copyOut(fromAddress, copies).await());
      return Arrival.PAST;
    }

    @Override
    public void copyWithin(long fromAddress, long toAddress, long bytes) {
      time(
          "copy within the device",
          2 * bytes,
          Profile.UNKNOWN,
          () -> super.copyWithin(fromAddress, toAddress, bytes));
    }

    @Override
    public void clear(long address, long bytes) {
      time("clear", bytes, Profile.UNKNOWN, () -> super.clear(address, bytes));
    }
  }

  private Buffer watched(Buffer buffer) {
    return new Buffer(new Watched(buffer.memory()), buffer.address(), buffer.bytes());
  }

  @Override
  public Buffer allocate(long bytes) {
    return watched(device.allocate(bytes));
  }

  @Override
  public Buffer upload(MemorySegment host) {
    timer.start();
    Buffer buffer = device.upload(host);
    if (!device.sharesHostMemory()) {
      stop("copy to the device", host.byteSize(), Profile.UNKNOWN);
    }
    return watched(buffer);
  }

  @Override
  public boolean recordsGraphs() {
    return false;
  }

  @Override
  public boolean isProfiled() {
    return true;
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    try {
      String found = profile().table(description());
      if (!found.isEmpty()) {
        table.accept(found);
      }
      timer.close();
    } finally {
      device.close();
    }
  }
}
