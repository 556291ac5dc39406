package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Pool;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What operations of steering point to on the device: vectors, maps, lists of heads and neurons.
 * Edits that hold the same values, of whatever slots and plans, have one copy, whose place is given
 * back with the last of them. Copies to the device wait for {@link #upload}, which makes one of
 * those that lie side by side, as the vectors of a plan do.
 */
final class Payloads implements AutoCloseable {
  /** Bytes that a processor's cache holds, and beside which a call to copy them is little. */
  private static final long MUCH = 1 << 20;

  private final Pool pool;
  private final ArrayHash hash;
  private final Map<Content, Payload> held = new HashMap<>();
  private final Map<Payload, MemorySegment> waiting = new LinkedHashMap<>();
  private long waitingBytes;

  Payloads(Device device, ArrayHash hash) {
    this.pool = new Pool(device);
    this.hash = hash;
  }

  /** An edit's arrays, compared by what they hold where their digests are the same. */
  private static final class Content {
    private final Object[] arrays;
    private final List<ArrayHash.Digest> digests;

    Content(Object[] arrays, ArrayHash.Digest... digests) {
      this.arrays = arrays;
      this.digests = List.of(digests);
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Content content
          && digests.equals(content.digests)
          && Arrays.deepEquals(arrays, content.arrays);
    }

    @Override
    public int hashCode() {
      return digests.hashCode();
    }
  }

  /** Values on the device, as long as somebody has taken them. */
  static final class Payload {
    private final Content content;
    private final Buffer buffer;
    private int uses;

    private Payload(Content content, Buffer buffer) {
      this.content = content;
      this.buffer = buffer;
    }

    Buffer buffer() {
      return buffer;
    }
  }

  /**
   * Those of an edit, which are copied by the next upload if nobody has the same; to be given back.
   */
  Payload take(Edit edit) {
    Payload payload =
        held.computeIfAbsent(
            content(edit),
            content -> {
              MemorySegment values = values(edit);
              Buffer place = pool.allocate(Math.max(Float.BYTES, values.byteSize()));
              Payload fresh = new Payload(content, place);
              waiting.put(fresh, values);
              waitingBytes += values.byteSize();
              return fresh;
            });
    payload.uses++;
    return payload;
  }

  /** Gives back what was taken. */
  void giveBack(Payload payload) {
    if (--payload.uses == 0) {
      held.remove(payload.content);
      MemorySegment values = waiting.remove(payload);
      waitingBytes -= values == null ? 0 : values.byteSize();
      payload.buffer.close();
    }
  }

  /** As {@link #upload}, if that is much: while it is still in the cache, where digests read it. */
  void uploadMuch() {
    if (waitingBytes >= MUCH) {
      upload();
    }
  }

  /** Copies to the device what has been taken since the last time. */
  void upload() {
    List<MemorySegment> parts = new ArrayList<>();
    Buffer to = null; // where the parts come to lie
    for (Map.Entry<Payload, MemorySegment> each : waiting.entrySet()) {
      Buffer place = each.getKey().buffer;
      if (to == null || to.address() + to.bytes() != place.address()) {
        copy(parts, to);
        to = place;
      } else {
        to = to.extend(place.bytes());
      }
      parts.add(each.getValue());
    }
    copy(parts, to);
    waiting.clear();
    waitingBytes = 0;
  }

  private static void copy(List<MemorySegment> parts, Buffer to) {
    if (!parts.isEmpty()) {
      to.copyFrom(parts);
      parts.clear();
    }
  }

  private Content content(Edit edit) {
    return switch (edit) {
      case Edit.Add add -> content(add.vector());
      case Edit.Ablate ablate -> content(ablate.unit());
      case Edit.Project project -> content(project.unit());
      case Edit.Heads heads -> content(heads.heads());
      case Edit.Neurons neurons -> content(neurons.neurons());
      case Edit.HeadAffine maps ->
          new Content(
              new Object[] {maps.heads(), maps.a(), maps.b()},
              hash.of(maps.heads()),
              hash.of(maps.a()),
              hash.of(maps.b()));
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no payload");
    };
  }

  private Content content(float[] values) {
    return new Content(new Object[] {values}, hash.of(values));
  }

  private Content content(int[] values) {
    return new Content(new Object[] {values}, hash.of(values));
  }

  private static MemorySegment values(Edit edit) {
    return switch (edit) {
      case Edit.Add add -> MemorySegment.ofArray(add.vector());
      case Edit.Ablate ablate -> MemorySegment.ofArray(ablate.unit());
      case Edit.Project project -> MemorySegment.ofArray(project.unit());
      case Edit.Heads heads -> MemorySegment.ofArray(heads.heads());
      case Edit.Neurons neurons -> MemorySegment.ofArray(neurons.neurons());
      case Edit.HeadAffine maps -> MemorySegment.ofArray(packed(maps));
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no payload");
    };
  }

  /** Heads, filled up to a multiple of 16, then each head's A transposed and b. */
  private static float[] packed(Edit.HeadAffine maps) {
    int count = maps.heads().length;
    int d = count == 0 ? 0 : maps.b().length / count;
    int first = (count + 15) / 16 * 16;
    float[] values = new float[first + count * (d + 1) * d];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(maps.heads()[i]);
      int to = first + i * (d + 1) * d;
      for (int row = 0; row < d; row++) {
        for (int column = 0; column < d; column++) {
          values[to + column * d + row] = maps.a()[(i * d + row) * d + column];
        }
      }
      System.arraycopy(maps.b(), i * d, values, to + d * d, d);
    }
    return values;
  }

  /** Frees all, given back or not. */
  @Override
  public void close() {
    pool.close();
  }
}
