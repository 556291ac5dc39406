package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;
import java.util.Random;

/** Numbers for kernels: random ones of a type, to a device and back. */
public final class Values {
  /** Row widths below, at and above the sizes of warps and blocks, and no multiple of them. */
  static final int[] SIZES = {1, 31, 32, 33, 255, 257, 1023};

  private Values() {}

  /** Gaussian numbers that the type holds exactly. */
  public static float[] random(DType type, int n, long seed) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = narrow(type, (float) random.nextGaussian());
    }
    return values;
  }

  /** The nearest number of the type: f32, f16 or bf16. */
  public static float narrow(DType type, float x) {
    return type == DType.F16
        ? Float.float16ToFloat(Float.floatToFloat16(x))
        : AttentionRun.round(type, x);
  }

  /** A buffer that holds these numbers of the type. */
  public static Buffer buffer(Device device, DType type, float[] values) {
    Buffer buffer = device.allocate((long) values.length * type.bytes());
    if (type == DType.F32) {
      buffer.set(values);
      return buffer;
    }
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] =
          type == DType.F16
              ? Float.floatToFloat16(values[i])
              : (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    buffer.copyFrom(MemorySegment.ofArray(bits));
    return buffer;
  }

  public static Buffer buffer(Device device, int... values) {
    Buffer buffer = device.allocate(4L * values.length);
    buffer.set(values);
    return buffer;
  }

  /** The first {@code n} numbers of a buffer of f32 or bf16. */
  public static float[] read(Buffer buffer, DType type, int n) {
    if (type == DType.F32) {
      return buffer.toFloats(n);
    }
    short[] bits = new short[n];
    buffer.copyTo(MemorySegment.ofArray(bits));
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    return values;
  }
}
