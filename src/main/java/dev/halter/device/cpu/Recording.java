package dev.halter.device.cpu;

import dev.halter.device.Buffer;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** Calls that are made later, one after another, with all that their arguments point to. */
final class Recording implements AutoCloseable {
  /** Work that wants the host's eyes or hands in its midst, which calls alone cannot do again. */
  static final class HostAccess extends RuntimeException {
    private static final long serialVersionUID = 1;

    HostAccess() {
      super("the host reads, writes or allocates memory in recorded work", null, false, false);
    }
  }

  private final Arena arena = Arena.ofShared();
  private final List<Call> calls = new ArrayList<>();
  private final List<Buffer> buffers = new ArrayList<>();

  /** Where arguments lie. */
  Arena arena() {
    return arena;
  }

  void add(Call call) {
    calls.add(call);
  }

  /** Notes buffers that calls use, for who checks them. */
  void uses(List<Buffer> more) {
    buffers.addAll(more);
  }

  List<Buffer> buffers() {
    return buffers;
  }

  int count() {
    return calls.size();
  }

  int launches() {
    return (int) calls.stream().filter(Call::isLaunch).count();
  }

  /** The calls as {@code halter_run} takes them. */
  MemorySegment calls() {
    MemorySegment all = arena.allocate(Call.LAYOUT, Math.max(1, calls.size()));
    for (int i = 0; i < calls.size(); i++) {
      calls.get(i).put(all, i);
    }
    return all;
  }

  @Override
  public void close() {
    arena.close();
  }
}
