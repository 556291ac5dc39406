package dev.halter.weights;

import dev.halter.device.DType;
import dev.halter.files.MappedFile;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * A tensor inside a mapped file or other memory: nothing is copied until it is asked for.
 *
 * @param name the tensor's name in its file
 * @param dtype element type
 * @param shape sizes, outermost first; elements lie row-major
 * @param data the elements, little-endian, of exactly as many bytes as dtype and shape ask for,
 *     with no promise about alignment; readable as long as its memory, for a file's tensor until
 *     the file is closed; never written through this view
 */
public record TensorView(String name, DType dtype, long[] shape, MemorySegment data) {

  /**
   * @throws IllegalArgumentException if shape and data do not fit each other
   */
  public TensorView {
    shape = shape.clone();
    if (!fits(dtype, shape, data.byteSize())) {
      throw new IllegalArgumentException(
          "tensor %s: %d bytes are not a %s of %s"
              .formatted(name, data.byteSize(), dtype, Arrays.toString(shape)));
    }
    data = data.asReadOnly();
  }

  private static boolean fits(DType dtype, long[] shape, long bytes) {
    try {
      long expected = dtype.bytes();
      for (long size : shape) {
        if (size < 0) {
          return false;
        }
        expected = Math.multiplyExact(expected, size);
      }
      return expected == bytes;
    } catch (ArithmeticException e) {
      return false;
    }
  }

  @Override
  public long[] shape() {
    return shape.clone();
  }

  /** Size along one axis, outermost first. */
  public long size(int axis) {
    return shape[axis];
  }

  public int rank() {
    return shape.length;
  }

  public long elements() {
    return data.byteSize() / dtype.bytes();
  }

  /** Whether the shape is exactly {@code sizes}. */
  public boolean hasShape(long... sizes) {
    return Arrays.equals(shape, sizes);
  }

  /**
   * Copies all elements into f32.
   *
   * @throws IllegalArgumentException unless the dtype is F64, F32, F16 or BF16 and the elements fit
   *     an array
   */
  public float[] toFloats() {
    float[] values = new float[arrayLength()];
    copyFloats(0, values);
    return values;
  }

  /**
   * Copies {@code into.length} elements from element {@code first} on as f32: exact for F32, F16
   * and BF16, the nearest for F64.
   *
   * @throws IllegalArgumentException unless the dtype is one of these
   * @throws IndexOutOfBoundsException if the tensor has fewer elements than that
   */
  public void copyFloats(long first, float[] into) {
    switch (dtype) {
      case F64 -> {
        for (int i = 0; i < into.length; i++) {
          into[i] = (float) data.get(MappedFile.F64, (first + i) * 8);
        }
      }
      case F32 -> MemorySegment.copy(data, MappedFile.F32, first * 4, into, 0, into.length);
      case F16 -> {
        short[] bits = shorts(first, into.length);
        for (int i = 0; i < into.length; i++) {
          into[i] = Float.float16ToFloat(bits[i]);
        }
      }
      case BF16 -> {
        short[] bits = shorts(first, into.length);
        for (int i = 0; i < into.length; i++) {
          into[i] = Float.intBitsToFloat(bits[i] << 16);
        }
      }
      default -> throw wrongType("F64, F32, F16 or BF16");
    }
  }

  /**
   * Copies all elements of an I32 tensor.
   *
   * @throws IllegalArgumentException unless the dtype is I32 and the elements fit an array
   */
  public int[] toInts() {
    if (dtype != DType.I32) {
      throw wrongType("I32");
    }
    int[] values = new int[arrayLength()];
    MemorySegment.copy(data, MappedFile.I32, 0, values, 0, values.length);
    return values;
  }

  /**
   * Copies all elements of an I64 tensor.
   *
   * @throws IllegalArgumentException unless the dtype is I64 and the elements fit an array
   */
  public long[] toLongs() {
    if (dtype != DType.I64) {
      throw wrongType("I64");
    }
    long[] values = new long[arrayLength()];
    MemorySegment.copy(data, MappedFile.I64, 0, values, 0, values.length);
    return values;
  }

  /** Copies the raw bytes of the tensor. */
  public byte[] toBytes() {
    return data.toArray(ValueLayout.JAVA_BYTE);
  }

  private short[] shorts(long first, int count) {
    short[] bits = new short[count];
    MemorySegment.copy(data, MappedFile.I16, first * 2, bits, 0, count);
    return bits;
  }

  private int arrayLength() {
    if (elements() > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(
          "tensor " + name + " has " + elements() + " elements, too many for one Java array");
    }
    return (int) elements();
  }

  private IllegalArgumentException wrongType(String wanted) {
    return new IllegalArgumentException("tensor " + name + " is " + dtype + ", not " + wanted);
  }

  /** Two views are equal when they show the same bytes in the same shape. */
  @Override
  public boolean equals(Object other) {
    return other instanceof TensorView that
        && name.equals(that.name)
        && dtype == that.dtype
        && Arrays.equals(shape, that.shape)
        && data.mismatch(that.data) == -1;
  }

  @Override
  public int hashCode() {
    return name.hashCode();
  }

  @Override
  public String toString() {
    return name + " " + dtype + " " + Arrays.toString(shape);
  }
}
