package dev.halter.device;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/**
 * A device for tests whose values come to the host as late as they may: what is {@link Buffer#send
 * sent} when it is awaited, and not before what was sent before it.
 */
public final class LateDevice extends ForwardingDevice {
  private final Deque<Late> late = new ArrayDeque<>();
  private long sent;
  private int most; // at once

  /** Over {@code device}, which is closed with this. */
  public LateDevice(Device device) {
    super(device);
  }

  /** Bytes sent since this was asked last. */
  public long sent() {
    long bytes = sent;
    sent = 0;
    return bytes;
  }

  /** How many were on their way at once since this was asked last. */
  public int most() {
    int many = most;
    most = 0;
    return many;
  }

  private final class Late implements Arrival {
    private final Runnable copy;
    private boolean isHere;

    Late(Runnable copy) {
      this.copy = copy;
    }

    @Override
    public void await() {
      while (!isHere) {
        Late first = late.removeFirst();
        first.copy.run();
        first.isHere = true;
      }
    }
  }

  @Override
  public Buffer allocate(long bytes) {
    Buffer buffer = super.allocate(bytes);
    BufferMemory memory =
        new ForwardingMemory(buffer.memory()) {
          @Override
          public Arrival copyOut(long fromAddress, List<HostCopy> copies) {
            sent += copies.stream().mapToLong(HostCopy::bytes).sum();
            late.addLast(new Late(() -> super.copyOut(fromAddress, copies).await()));
            most = Math.max(most, late.size());
            return late.getLast();
          }
        };
    return new Buffer(memory, buffer.address(), buffer.bytes());
  }
}
