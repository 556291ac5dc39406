package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * What operations of steering point to on the device: vectors, maps, lists of heads and neurons.
 * Edits that hold the same values, of whatever slots and plans, have one copy, which is freed with
 * the last of them.
 */
final class Payloads implements AutoCloseable {
  private final Device device;
  private final Map<Content, Payload> held = new HashMap<>();

  Payloads(Device device) {
    this.device = device;
  }

  /** An edit's arrays, compared by what they hold. */
  private static final class Content {
    private final Object[] arrays;
    private final int hash;

    Content(Object... arrays) {
      this.arrays = arrays;
      this.hash = Arrays.deepHashCode(arrays);
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Content content
          && hash == content.hash
          && Arrays.deepEquals(arrays, content.arrays);
    }

    @Override
    public int hashCode() {
      return hash;
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

  /** Those of an edit, uploaded if nobody has the same; to be given back. */
  Payload take(Edit edit) {
    Payload payload =
        held.computeIfAbsent(content(edit), content -> new Payload(content, upload(values(edit))));
    payload.uses++;
    return payload;
  }

  /** Gives back what was taken. */
  void giveBack(Payload payload) {
    if (--payload.uses == 0) {
      held.remove(payload.content);
      payload.buffer.close();
    }
  }

  private Buffer upload(MemorySegment values) {
    Buffer buffer = device.allocate(Math.max(Float.BYTES, values.byteSize()));
    buffer.copyFrom(values);
    return buffer;
  }

  private static Content content(Edit edit) {
    return switch (edit) {
      case Edit.Add add -> new Content((Object) add.vector());
      case Edit.Ablate ablate -> new Content((Object) ablate.unit());
      case Edit.Project project -> new Content((Object) project.unit());
      case Edit.Heads heads -> new Content((Object) heads.heads());
      case Edit.Neurons neurons -> new Content((Object) neurons.neurons());
      case Edit.HeadAffine maps -> new Content(maps.heads(), maps.a(), maps.b());
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no payload");
    };
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
    held.values().forEach(payload -> payload.buffer.close());
    held.clear();
  }
}
