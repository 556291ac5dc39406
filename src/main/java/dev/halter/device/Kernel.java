package dev.halter.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * A kernel of one device, with native memory in which its arguments are packed for each launch: the
 * values in 8-byte cells and the array of their addresses, which is exactly cuLaunchKernel's {@code
 * kernelParams}. Drivers copy the values at launch, so the memory is reused.
 */
public final class Kernel {
  private final String name;
  private final long handle;
  private final int[] parameterBytes;
  private final MemorySegment values;
  private final MemorySegment pointers;

  /**
   * Only devices make these.
   *
   * @param handle what the device calls it by
   * @param parameterBytes size of each parameter in bytes, 4 or 8
   */
  public Kernel(String name, long handle, int[] parameterBytes, Arena arena) {
    this.name = name;
    this.handle = handle;
    this.parameterBytes = parameterBytes.clone();
    this.values = arena.allocate(8L * Math.max(1, parameterBytes.length), 8);
    this.pointers = arena.allocate(8L * Math.max(1, parameterBytes.length), 8);
    for (int i = 0; i < parameterBytes.length; i++) {
      pointers.setAtIndex(ValueLayout.JAVA_LONG, i, values.address() + 8L * i);
    }
  }

  public String name() {
    return name;
  }

  public long handle() {
    return handle;
  }

  /** Packs the arguments and returns the array of their addresses. */
  public MemorySegment pack(Object... arguments) {
    if (arguments.length != parameterBytes.length) {
      throw new IllegalArgumentException(
          "kernel %s takes %d arguments, not %d"
              .formatted(name, parameterBytes.length, arguments.length));
    }
    for (int i = 0; i < arguments.length; i++) {
      int bytes = put(8L * i, arguments[i]);
      if (bytes != parameterBytes[i]) {
        throw new IllegalArgumentException(
            "argument %d of kernel %s has %d bytes, not %d"
                .formatted(i, name, parameterBytes[i], bytes));
      }
    }
    return pointers;
  }

  private int put(long offset, Object argument) {
    switch (argument) {
      case null -> values.set(ValueLayout.JAVA_LONG, offset, 0L);
      case Buffer buffer -> values.set(ValueLayout.JAVA_LONG, offset, buffer.address());
      case Long number -> values.set(ValueLayout.JAVA_LONG, offset, number);
      case Integer number -> {
        values.set(ValueLayout.JAVA_INT, offset, number);
        return 4;
      }
      case Float number -> {
        values.set(ValueLayout.JAVA_FLOAT, offset, number);
        return 4;
      }
      default ->
          throw new IllegalArgumentException(
              "kernel " + name + " cannot take a " + argument.getClass().getSimpleName());
    }
    return 8;
  }
}
