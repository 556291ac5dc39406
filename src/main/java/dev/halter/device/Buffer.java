package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;

/** A range of a device's memory. Copies are bounds-checked and ordered with launches. */
public final class Buffer implements AutoCloseable {
  private final BufferMemory memory;
  private final long address;
  private final long bytes;
  private boolean owner;

  /** A fresh allocation at {@code address}; only devices make these. */
  public Buffer(BufferMemory memory, long address, long bytes) {
    this(memory, address, bytes, true);
  }

  private Buffer(BufferMemory memory, long address, long bytes, boolean owner) {
    this.memory = memory;
    this.address = address;
    this.bytes = bytes;
    this.owner = owner;
  }

  /** The device address, as kernels see it. */
  public long address() {
    return address;
  }

  public long bytes() {
    return bytes;
  }

  BufferMemory memory() {
    return memory;
  }

  /** A view of a part; closing a view does nothing. */
  public Buffer slice(long offset, long length) {
    check(offset, length);
    return new Buffer(memory, address + offset, length, false);
  }

  /** This range and the {@code more} bytes after it, which the caller knows to be allocated. */
  public Buffer extend(long more) {
    return new Buffer(memory, address, bytes + more, false);
  }

  /** Everything from {@code offset} on. */
  public Buffer slice(long offset) {
    return slice(offset, bytes - offset);
  }

  /** Copies all of {@code from} to the start of this buffer. */
  public void copyFrom(MemorySegment from) {
    check(0, from.byteSize());
    memory.copyIn(from, address, from.byteSize());
  }

  /** Copies all of {@code parts}, one behind another, to the start of this buffer in one go. */
  public void copyFrom(List<MemorySegment> parts) {
    check(0, parts.stream().mapToLong(MemorySegment::byteSize).sum());
    memory.copyIn(parts, address);
  }

  /** Copies the start of this buffer over all of {@code to}, waiting for what was queued before. */
  public void copyTo(MemorySegment to) {
    check(0, to.byteSize());
    memory.copyOut(address, to, to.byteSize());
  }

  /**
   * Begins copies to the host of what work queued before leaves in this buffer; work queued later
   * goes on meanwhile. Before {@link Arrival#await} has returned the buffer is not written to, and
   * nobody looks at where the values go.
   *
   * @param copies in the order of the buffer, none over another; best with little between them,
   *     which is fetched too
   */
  public Arrival send(List<HostCopy> copies) {
    copies.forEach(copy -> check(copy.from(), copy.bytes()));
    return copies.isEmpty() ? Arrival.PAST : memory.copyOut(address, copies);
  }

  /** Queues a copy of all of {@code from}, which lies on the same device, to the start of this. */
  public void copyFrom(Buffer from) {
    check(0, from.bytes);
    memory.copyWithin(from.address, address, from.bytes);
  }

  /** Queues setting every byte to zero. */
  public void clear() {
    memory.clear(address, bytes);
  }

  /** Convenience for small tables: replaces the start of this buffer. */
  public void set(int... values) {
    copyFrom(MemorySegment.ofArray(values));
  }

  /** Convenience for small tables: replaces the start of this buffer. */
  public void set(float... values) {
    copyFrom(MemorySegment.ofArray(values));
  }

  /** The first {@code count} elements as ints. */
  public int[] toInts(int count) {
    int[] values = new int[count];
    copyTo(MemorySegment.ofArray(values));
    return values;
  }

  /** The first {@code count} elements as floats. */
  public float[] toFloats(int count) {
    float[] values = new float[count];
    copyTo(MemorySegment.ofArray(values));
    return values;
  }

  private void check(long offset, long length) {
    if (offset < 0 || length < 0 || offset > bytes - length) {
      throw new IndexOutOfBoundsException(
          "bytes " + offset + " to " + (offset + length) + " of a buffer of " + bytes + " bytes");
    }
  }

  /** Frees the allocation; views ignore it. */
  @Override
  public void close() {
    if (owner) {
      owner = false; // a second close must not free what has got the same address since
      memory.free(address);
    }
  }
}
