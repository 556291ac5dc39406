package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** A device for tests that notes how many bytes each copy from the host has. */
public final class UploadCounter extends ForwardingDevice {
  private List<Long> copies = new ArrayList<>();

  /** Over {@code device}, which is closed with this. */
  public UploadCounter(Device device) {
    super(device);
  }

  /** Bytes of each copy since this was asked last. */
  public List<Long> copies() {
    List<Long> noted = copies;
    copies = new ArrayList<>();
    return noted;
  }

  @Override
  public Buffer allocate(long bytes) {
    Buffer buffer = super.allocate(bytes);
    BufferMemory noting =
        new ForwardingMemory(buffer.memory()) {
          @Override
          public void copyIn(MemorySegment from, long toAddress, long size) {
            copies.add(size);
            super.copyIn(from, toAddress, size);
          }

          @Override
          public void copyIn(List<MemorySegment> parts, long toAddress) {
            copies.add(parts.stream().mapToLong(MemorySegment::byteSize).sum());
            super.copyIn(parts, toAddress);
          }
        };
    return new Buffer(noting, buffer.address(), buffer.bytes());
  }
}
