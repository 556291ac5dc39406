package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.lang.reflect.Method;
import java.lang.reflect.RecordComponent;

/**
 * A structure as kernels take it, by value or in an array: the fields of a record, laid out as C
 * does. It is packed once, so passing it costs a launch nothing.
 *
 * <p>The record has the name of the kernels' structure and its fields in the same order: a {@link
 * Buffer} (or null) for a pointer, and {@code int}, {@code long} and {@code float}. A test compares
 * all such records with the kernels' sources.
 */
public final class Struct<R extends Record> {
  private static final ClassValue<Layout> LAYOUTS =
      new ClassValue<>() {
        @Override
        protected Layout computeValue(Class<?> type) {
          return Layout.of(type);
        }
      };

  private final R fields;
  private final MemorySegment packed;

  /** Where the fields of a record lie, and how they are read: slow to find out, once for each. */
  private record Layout(Method[] fields, long[] offsets, long bytes) {
    static Layout of(Class<?> type) {
      RecordComponent[] components = type.getRecordComponents();
      Method[] fields = new Method[components.length];
      long[] offsets = new long[components.length];
      long end = 0;
      int alignment = 1;
      for (int i = 0; i < components.length; i++) {
        int size = size(components[i]);
        offsets[i] = aligned(end, size);
        end = offsets[i] + size;
        alignment = Math.max(alignment, size);
        fields[i] = components[i].getAccessor();
        fields[i].setAccessible(true); // the record may be its package's own
      }
      return new Layout(fields, offsets, aligned(end, alignment));
    }

    private static int size(RecordComponent field) {
      Class<?> type = field.getType();
      if (type == Buffer.class || type == long.class) {
        return 8;
      }
      if (type == int.class || type == float.class) {
        return 4;
      }
      throw new IllegalArgumentException(
          "field %s of %s is a %s, which no structure holds"
              .formatted(
                  field.getName(),
                  field.getDeclaringRecord().getSimpleName(),
                  type.getSimpleName()));
    }

    private static long aligned(long offset, int size) {
      return (offset + size - 1) / size * size;
    }
  }

  /**
   * Packs the addresses and numbers that the fields have now.
   *
   * @throws IllegalArgumentException for a field of another type
   */
  public Struct(R fields) {
    this.fields = fields;
    Layout layout = LAYOUTS.get(fields.getClass());
    MemorySegment room = MemorySegment.ofArray(new long[Math.toIntExact((layout.bytes + 7) / 8)]);
    this.packed = room.asSlice(0, layout.bytes);
    for (int i = 0; i < layout.fields.length; i++) {
      Kernel.put(packed, layout.offsets[i], value(layout.fields[i]));
    }
  }

  private Object value(Method field) {
    try {
      return field.invoke(fields);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("cannot read " + field, e);
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
