package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * The memory that a {@link Buffer} lies in, for the buffer alone: it has checked offsets and bounds
 * by then. Only devices implement this.
 */
public interface BufferMemory {
  /** Copies host to device; on return {@code from} may be reused. */
  void copyIn(MemorySegment from, long toAddress, long bytes);

  /** As above, of parts that come to lie one behind another. */
  default void copyIn(List<MemorySegment> parts, long toAddress) {
    for (MemorySegment part : parts) {
      copyIn(part, toAddress, part.byteSize());
      toAddress += part.byteSize();
    }
  }

  /** Copies device to host, after all work queued before; on return the data is there. */
  void copyOut(long fromAddress, MemorySegment to, long bytes);

  /** As {@link Buffer#send}, of a buffer that begins at {@code fromAddress}. */
  default Arrival copyOut(long fromAddress, List<HostCopy> copies) {
    for (HostCopy copy : copies) {
      MemorySegment to = copy.to().get();
      if (to != null) {
        copyOut(fromAddress + copy.from(), to, copy.bytes());
      }
    }
    return Arrival.PAST;
  }

  /** Queues a copy within the device; the ranges must not overlap. */
  void copyWithin(long fromAddress, long toAddress, long bytes);

  /** Queues setting {@code bytes} bytes to zero. */
  void clear(long address, long bytes);

  /** Frees what {@link Device#allocate} or {@link Device#upload} gave. */
  void free(long address);
}
