package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;

/** Memory that passes everything on to another: what does some of it otherwise overrides that. */
class ForwardingMemory implements BufferMemory {
  private final BufferMemory memory;

  ForwardingMemory(BufferMemory memory) {
    this.memory = memory;
  }

  @Override
  public void copyIn(MemorySegment from, long toAddress, long bytes) {
    memory.copyIn(from, toAddress, bytes);
  }

  @Override
  public void copyIn(List<MemorySegment> parts, long toAddress) {
    memory.copyIn(parts, toAddress);
  }

  @Override
  public void copyOut(long fromAddress, MemorySegment to, long bytes) {
    memory.copyOut(fromAddress, to, bytes);
  }

  @Override
  public Arrival copyOut(long fromAddress, List<HostCopy> copies) {
    return memory.copyOut(fromAddress, copies);
  }

  @Override
  public void copyWithin(long fromAddress, long toAddress, long bytes) {
    memory.copyWithin(fromAddress, toAddress, bytes);
  }

  @Override
  public void clear(long address, long bytes) {
    memory.clear(address, bytes);
  }

  @Override
  public void free(long address) {
    memory.free(address);
  }
}
