package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;

/**
 * A table on the device whose values are made on the host: they are collected there, and what lies
 * from the first to the last that has changed goes up in one copy. It begins as zeros, which go up
 * with the first.
 */
final class StagedTable implements AutoCloseable {
  private final MemorySegment host;
  private final Buffer buffer;
  private long firstChanged;
  private long endChanged;

  /** A table of so many bytes. */
  StagedTable(Device device, long bytes) {
    this.host = MemorySegment.ofArray(new long[Math.toIntExact((bytes + 7) / 8)]);
    this.buffer = device.allocate(bytes);
    this.endChanged = bytes;
  }

  long bytes() {
    return buffer.bytes();
  }

  /** The device's table, as of the last {@link #upload}. */
  Buffer buffer() {
    return buffer;
  }

  /** All of the host's values, to be read. */
  MemorySegment values() {
    return host.asReadOnly();
  }

  /** Some of the host's values, to be changed before the next upload. */
  MemorySegment change(long offset, long bytes) {
    firstChanged = endChanged == 0 ? offset : Math.min(firstChanged, offset);
    endChanged = Math.max(endChanged, offset + bytes);
    return host.asSlice(offset, bytes);
  }

  /** Brings the device up to date. */
  void upload() {
    if (endChanged > 0) {
      long bytes = endChanged - firstChanged;
      buffer.slice(firstChanged, bytes).copyFrom(host.asSlice(firstChanged, bytes));
      endChanged = 0;
    }
  }

  @Override
  public void close() {
    buffer.close();
  }
}
