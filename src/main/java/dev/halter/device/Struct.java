package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.lang.reflect.RecordComponent;
import java.util.stream.Stream;

/**
 * A structure as kernels take it, by value or in an array: the fields of a record, laid out as C
 * does. It is packed once, so passing it costs a launch nothing.
 *
 * <p>The record has the name of the kernels' structure and its fields in the same order: a {@link
 * Buffer} (or null) for a pointer, and {@code int}, {@code long} and {@code float}. A test compares
 * all such records with the kernels' sources.
 */
public final class Struct<R extends Record> {
  private final R fields;
  private final MemorySegment packed;

  /**
   * Packs the addresses and numbers that the fields have now.
   *
   * @throws IllegalArgumentException for a field of another type
   */
  public Struct(R fields) {
    this.fields = fields;
    RecordComponent[] components = fields.getClass().getRecordComponents();
    Object[] values = Stream.of(components).map(this::value).toArray();
    long[] offsets = new long[values.length];
    long end = 0;
    int alignment = 1;
    for (int i = 0; i < values.length; i++) {
      int size = Kernel.size(values[i]);
      if (size != 4 && size != 8) {
        throw new IllegalArgumentException(
            "field %s of %s is a %s, which no structure holds"
                .formatted(
                    components[i].getName(),
                    fields.getClass().getSimpleName(),
                    components[i].getType().getSimpleName()));
      }
      offsets[i] = aligned(end, size);
      end = offsets[i] + size;
      alignment = Math.max(alignment, size);
    }
    MemorySegment room = MemorySegment.ofArray(new long[Math.toIntExact(aligned(end, 8) / 8)]);
    this.packed = room.asSlice(0, aligned(end, alignment));
    for (int i = 0; i < values.length; i++) {
      Kernel.put(packed, offsets[i], values[i]);
    }
  }

  private static long aligned(long offset, int size) {
    return (offset + size - 1) / size * size;
  }

  private Object value(RecordComponent component) {
    try {
      component.getAccessor().setAccessible(true); // the record may be its package's own
      return component.getAccessor().invoke(fields);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("cannot read " + component, e);
    }
  }

  public R fields() {
    return fields;
  }

  /** Writes it into an array of structures. */
  public void copyTo(MemorySegment to, long offset) {
    Kernel.put(to, offset, packed);
  }

  int bytes() {
    return Math.toIntExact(packed.byteSize());
  }

  MemorySegment packed() {
    return packed;
  }
}
