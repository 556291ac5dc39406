package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.function.Supplier;

/**
 * Where bytes of a buffer go on the host.
 *
 * @param from where they begin in the buffer
 * @param bytes how many
 * @param to asked for once they have come, by the threads that copy them, by each for its part:
 *     memory of {@code bytes}, or null if nobody wants them any more
 */
public record HostCopy(long from, long bytes, Supplier<MemorySegment> to) {
  /** Over all of {@code to}. */
  public static HostCopy over(MemorySegment to, long from) {
    return new HostCopy(from, to.byteSize(), () -> to);
  }

  /** Copies to the host what of these bytes lies in a part of the buffer. */
  public void take(MemorySegment part, long partFrom) {
    long begin = Math.max(from, partFrom);
    long end = Math.min(from + bytes, partFrom + part.byteSize());
    MemorySegment target = begin < end ? to.get() : null;
    if (target != null) {
      MemorySegment.copy(part, begin - partFrom, target, begin - from, end - begin);
    }
  }
}
