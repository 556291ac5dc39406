package dev.halter.device.cpu;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.halter.device.BufferMemory;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.files.Reason;
import java.io.IOException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;

/**
 * The memory of one CPU device: what it allocated, and host memory that it was lent.
 *
 * <p>A checked memory, for tests, is filled with 0xFF, which is NaN in every floating-point type,
 * before use and after, and knows when something was written past the end.
 */
final class HostMemory implements BufferMemory {
  private static final long ALIGNMENT = 256;

  /** Bytes behind each allocation: vectorised loops may read a little more than they use. */
  private static final long PADDING = 64;

  private static final byte POISON = (byte) 0xFF;

  /** Below this an allocation is not worth asking the system first. */
  private static final long LARGE = 64L << 20;

  private static final Linker LINKER = Linker.nativeLinker();
  private static final MethodHandle ALIGNED_ALLOC =
      LINKER.downcallHandle(
          LINKER.defaultLookup().findOrThrow("aligned_alloc"),
          FunctionDescriptor.of(ADDRESS, JAVA_LONG, JAVA_LONG));
  private static final MethodHandle FREE =
      LINKER.downcallHandle(
          LINKER.defaultLookup().findOrThrow("free"), FunctionDescriptor.ofVoid(ADDRESS));

  /**
   * A range that kernels may use.
   *
   * @param loans how often host memory was lent; 0 for the device's own
   */
  private record Range(long address, long bytes, int loans) {
    /** All of it and the padding. */
    MemorySegment padded() {
      return MemorySegment.ofAddress(address).reinterpret(bytes + PADDING);
    }
  }

  private final boolean checked;
  private final TreeMap<Long, Range> ranges = new TreeMap<>();
  private Recording recording; // that work goes to, or null
  private boolean closed;

  HostMemory(boolean checked) {
    this.checked = checked;
  }

  /** From now on work is recorded, and what cannot be is refused; null: it is done again. */
  void record(Recording newRecording) {
    recording = newRecording;
  }

  private void requireDirect() {
    if (recording != null) {
      throw new Recording.HostAccess();
    }
  }

  /** Allocates, contents undefined. */
  long allocate(long bytes) {
    requireDirect();
    if (bytes < 0) {
      throw new IllegalArgumentException("cannot allocate " + bytes + " bytes");
    }
    // The system promises more memory than it has and ends the process when it is used: ask first.
    if (bytes >= LARGE && bytes > ofMachine().free()) {
      throw new OutOfDeviceMemoryException(bytes, ofMachine());
    }
    long rounded = (bytes + PADDING + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    MemorySegment allocated;
    try {
      allocated = (MemorySegment) ALIGNED_ALLOC.invokeExact(ALIGNMENT, rounded);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
    if (allocated.address() == 0) {
      throw new OutOfDeviceMemoryException(bytes, ofMachine());
    }
    Range range = new Range(allocated.address(), bytes, 0);
    ranges.put(range.address, range);
    if (checked) {
      range.padded().fill(POISON);
    }
    return range.address;
  }

  /** Takes host memory on loan. */
  long lend(MemorySegment host) {
    requireDirect();
    Range before = ranges.get(host.address());
    int loans = before == null ? 1 : before.loans + 1;
    long bytes = before == null ? host.byteSize() : Math.max(before.bytes, host.byteSize());
    ranges.put(host.address(), new Range(host.address(), bytes, loans));
    return host.address();
  }

  @Override
  public void copyIn(MemorySegment from, long toAddress, long bytes) {
    requireDirect();
    MemorySegment.copy(from, 0, segment(toAddress, bytes), 0, bytes);
  }

  @Override
  public void copyOut(long fromAddress, MemorySegment to, long bytes) {
    requireDirect();
    MemorySegment.copy(segment(fromAddress, bytes), 0, to, 0, bytes);
  }

  @Override
  public void copyWithin(long fromAddress, long toAddress, long bytes) {
    MemorySegment from = segment(fromAddress, bytes);
    MemorySegment to = segment(toAddress, bytes);
    if (recording != null) {
      recording.add(Call.copy(fromAddress, toAddress, bytes));
    } else {
      MemorySegment.copy(from, 0, to, 0, bytes);
    }
  }

  @Override
  public void clear(long address, long bytes) {
    MemorySegment range = segment(address, bytes);
    if (recording != null) {
      recording.add(Call.clear(address, bytes));
    } else {
      range.fill((byte) 0);
    }
  }

  /** Frees an allocation, or ends a loan. */
  @Override
  public void free(long address) {
    if (closed) {
      return; // freed together with the device
    }
    Range range = ranges.remove(address);
    if (range == null) {
      throw new DeviceException(
          "address 0x%x is freed, but not allocated: freed twice?".formatted(address));
    }
    if (range.loans > 1) {
      ranges.put(address, new Range(address, range.bytes, range.loans - 1));
    } else if (range.loans == 0) {
      String damage = damage(range);
      release(range);
      if (damage != null) {
        throw new DeviceException(damage);
      }
    }
  }

  /** The memory from an address on, if it is the device's. */
  private MemorySegment segment(long address, long bytes) {
    require(address, bytes);
    return MemorySegment.ofAddress(address).reinterpret(bytes);
  }

  /**
   * Throws if the range is not inside memory that is allocated now, or inside neighbouring loans:
   * tensors that follow one another in a mapped file may be used as one.
   */
  void require(long address, long bytes) {
    if (closed) {
      throw new IllegalStateException("the device is closed");
    }
    Map.Entry<Long, Range> entry = ranges.floorEntry(address);
    long end = entry == null ? address : entry.getKey() + entry.getValue().bytes;
    while (entry != null && end < address + bytes && entry.getValue().loans > 0) {
      Range next = ranges.get(end);
      entry = next == null || next.loans == 0 ? null : Map.entry(end, next);
      end = entry == null ? end : end + next.bytes;
    }
    if (entry == null || end < address + bytes) {
      throw new DeviceException(
          "%d bytes at 0x%x are not this device's memory: a buffer used after it was closed, or of another device?"
              .formatted(bytes, address));
    }
  }

  /** Bytes allocated or lent, and not freed yet. */
  long used() {
    return ranges.values().stream().mapToLong(Range::bytes).sum();
  }

  /** Frees everything. */
  void close() {
    closed = true;
    String damage = null;
    for (Range range : ranges.values()) {
      if (range.loans == 0) {
        damage = damage == null ? damage(range) : damage;
        release(range);
      }
    }
    ranges.clear();
    if (damage != null) {
      throw new DeviceException(damage);
    }
  }

  private String damage(Range range) {
    if (checked) {
      MemorySegment padded = range.padded();
      for (long i = range.bytes; i < padded.byteSize(); i++) {
        if (padded.get(ValueLayout.JAVA_BYTE, i) != POISON) {
          return "something was written %d bytes past the end of a buffer of %d bytes"
              .formatted(i - range.bytes, range.bytes);
        }
      }
    }
    return null;
  }

  private void release(Range range) {
    if (checked) {
      range.padded().fill(POISON);
    }
    try {
      FREE.invokeExact(MemorySegment.ofAddress(range.address));
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** What the machine, or the container or limits of this process, have and have left. */
  static Device.Memory ofMachine() {
    long total = 0;
    long free = 0;
    try {
      for (String line : Files.readAllLines(Path.of("/proc/meminfo"))) {
        String[] words = line.split("\\s+");
        if (words[0].equals("MemTotal:")) {
          total = Long.parseLong(words[1]) << 10;
        } else if (words[0].equals("MemAvailable:")) {
          free = Long.parseLong(words[1]) << 10;
        }
      }
    } catch (IOException e) {
      throw new DeviceException("cannot read how much memory there is: " + Reason.of(e), e);
    }
    ControlGroup group = ControlGroup.ofProcess();
    total = Math.min(total, group.limit());
    free = Math.min(free, group.free());
    Map<String, Long> used = status();
    Map<String, String> limits = Map.of("Max address space", "VmSize", "Max data size", "VmData");
    for (Map.Entry<String, String> limit : limits.entrySet()) {
      long most = limit(limit.getKey());
      total = Math.min(total, most);
      free = Math.min(free, Math.max(0, most - used.getOrDefault(limit.getValue(), 0L)));
    }
    return new Device.Memory(total, free, used.getOrDefault("VmRSS", 0L));
  }

  /** What this process uses, in bytes by the kernel's names. */
  private static Map<String, Long> status() {
    Map<String, Long> used = new HashMap<>();
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        String[] words = line.split(":?\\s+");
        if (words.length == 3 && words[2].equals("kB")) {
          used.put(words[0], Long.parseLong(words[1]) << 10);
        }
      }
    } catch (IOException | NumberFormatException e) {
      // Another kernel: nothing is known then.
    }
    return used;
  }

  /** A limit of this process as {@code ulimit} sets it. */
  private static long limit(String name) {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/limits"))) {
        if (line.startsWith(name)) {
          return Long.parseLong(line.substring(name.length()).strip().split("\\s+")[0]);
        }
      }
    } catch (IOException | NumberFormatException e) {
      // No limit: there is no such file, or it says "unlimited".
    }
    return Long.MAX_VALUE;
  }
}
