package dev.halter.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.ValueLayout;

/**
 * A kernel of one device, with native memory in which its arguments are packed for each launch: the
 * values, and the array of their addresses, which is exactly cuLaunchKernel's {@code kernelParams}.
 * Drivers copy the values at launch, so the memory is reused.
 */
public final class Kernel {
  /** Alignment of structures that kernels take; a tensor map needs this much. */
  private static final int STRUCTURE = 64;

  private final String name;
  private final long handle;
  private final int[] parameterBytes;
  private final long[] offsets;
  private final long valueBytes;
  private final Packed own;
  private final boolean early;

  /** Room for the values, and the array of their addresses. */
  private record Packed(MemorySegment values, MemorySegment pointers) {}

  /**
   * Only devices make these.
   *
   * @param handle what the device calls it by
   * @param parameterBytes size of each parameter in bytes: 4, 8, or a structure's
   */
  public Kernel(String name, long handle, int[] parameterBytes, Arena arena) {
    this.name = name;
    this.handle = handle;
    this.parameterBytes = parameterBytes.clone();
    this.offsets = new long[parameterBytes.length];
    long end = 0;
    for (int i = 0; i < parameterBytes.length; i++) {
      long alignment = parameterBytes[i] > 8 ? STRUCTURE : 8;
      offsets[i] = (end + alignment - 1) / alignment * alignment;
      end = offsets[i] + Math.max(8, parameterBytes[i]);
    }
    this.valueBytes = Math.max(8, end);
    this.own = room(arena);
    this.early = false;
  }

  private Kernel(Kernel kernel, boolean early) {
    this.name = kernel.name;
    this.handle = kernel.handle;
    this.parameterBytes = kernel.parameterBytes;
    this.offsets = kernel.offsets;
    this.valueBytes = kernel.valueBytes;
    this.own = kernel.own;
    this.early = early;
  }

  /**
   * The same kernel, whose launches may begin while the launch before still runs: it waits itself
   * for what it needs ({@code cuda-kernels/launch_order.cuh}). Nothing that it reads before may be
   * written by the launch before.
   */
  public Kernel early() {
    return new Kernel(this, true);
  }

  /** Whether it is {@link #early}. */
  public boolean isEarly() {
    return early;
  }

  private Packed room(SegmentAllocator allocator) {
    MemorySegment values = allocator.allocate(valueBytes, STRUCTURE);
    MemorySegment pointers = allocator.allocate(8L * Math.max(1, offsets.length), 8);
    for (int i = 0; i < offsets.length; i++) {
      pointers.setAtIndex(ValueLayout.JAVA_LONG, i, values.address() + offsets[i]);
    }
    return new Packed(values, pointers);
  }

  public String name() {
    return name;
  }

  public long handle() {
    return handle;
  }

  /** Packs the arguments, until the next call, and returns the array of their addresses. */
  public MemorySegment pack(Object... arguments) {
    return pack(own, arguments);
  }

  /** As above, into memory of their own. */
  public MemorySegment pack(SegmentAllocator allocator, Object... arguments) {
    return pack(room(allocator), arguments);
  }

  private MemorySegment pack(Packed packed, Object... arguments) {
    if (arguments.length != parameterBytes.length) {
      throw new IllegalArgumentException(
          "kernel %s takes %d arguments, not %d"
              .formatted(name, parameterBytes.length, arguments.length));
    }
    for (int i = 0; i < arguments.length; i++) {
      int bytes = size(arguments[i]);
      if (bytes == 0) {
        throw new IllegalArgumentException(
            "kernel " + name + " cannot take a " + arguments[i].getClass().getSimpleName());
      }
      if (bytes != parameterBytes[i]) {
        throw new IllegalArgumentException(
            "argument %d of kernel %s has %d bytes, not %d"
                .formatted(i, name, bytes, parameterBytes[i]));
      }
      put(packed.values, offsets[i], arguments[i]);
    }
    return packed.pointers;
  }

  /** Bytes of an argument as CUDA passes it; 0 of what cannot be passed. */
  static int size(Object argument) {
    return switch (argument) {
      case null -> 8;
      case Buffer buffer -> 8;
      case Long number -> 8;
      case Integer number -> 4;
      case Float number -> 4;
      case Struct<?> struct -> struct.bytes();
      case MemorySegment structure -> Math.toIntExact(structure.byteSize());
      default -> 0;
    };
  }

  /** Writes an argument that has a {@link #size}. */
  static void put(MemorySegment values, long offset, Object argument) {
    switch (argument) {
      case null -> values.set(ValueLayout.JAVA_LONG, offset, 0L);
      case Buffer buffer -> values.set(ValueLayout.JAVA_LONG, offset, buffer.address());
      case Long number -> values.set(ValueLayout.JAVA_LONG, offset, number);
      case Integer number -> values.set(ValueLayout.JAVA_INT, offset, number);
      case Float number -> values.set(ValueLayout.JAVA_FLOAT, offset, number);
      case Struct<?> struct -> put(values, offset, struct.packed());
      case MemorySegment structure ->
          MemorySegment.copy(structure, 0, values, offset, structure.byteSize());
      default -> throw new AssertionError(argument); // its size is 0
    }
  }
}
