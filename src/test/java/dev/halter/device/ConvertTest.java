package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.function.IntBinaryOperator;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code convert_*}, and with them the conversions of types.cuh, over all bit patterns. */
class ConvertTest {
  private static final int PATTERNS = 1 << 16;

  /** Lower halves of floats around what halfway is to bf16 (16 bits kept) and to f16 (13 cut). */
  private static final int[] LOW = {
    0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7000, 0x7fff, 0x8000, 0x8001, 0xffff
  };

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void everyF16IsExactInF32(Device device) {
    float[] wide = widen(device, "convert_f16_f32");
    for (int i = 0; i < PATTERNS; i++) {
      float expected = Float.float16ToFloat((short) i);
      assertTrue(
          Float.floatToIntBits(expected) == Float.floatToIntBits(wide[i]),
          "f16 0x%04x: %s, not %s".formatted(i, wide[i], expected));
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void everyBf16IsExactInF32(Device device) {
    float[] wide = widen(device, "convert_bf16_f32");
    for (int i = 0; i < PATTERNS; i++) {
      assertEquals(i << 16, Float.floatToRawIntBits(wide[i]));
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void f32RoundsToTheNearestF16(Device device) {
    // The JDK's own conversion is the reference.
    assertNarrowed(
        device,
        "convert_f32_f16",
        (high, low) -> Float.floatToFloat16(Float.intBitsToFloat(high << 16 | low)) & 0xffff);
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void f32RoundsToTheNearestBf16(Device device) {
    assertNarrowed(device, "convert_f32_bf16", ConvertTest::nearestBf16);
  }

  /** By distances in double arithmetic; ties go to the even pattern. */
  private static int nearestBf16(int high, int low) {
    float exact = Float.intBitsToFloat(high << 16 | low);
    if (Float.isInfinite(exact)) {
      return high;
    }
    double below = Math.abs((double) Float.intBitsToFloat(high << 16));
    double next = Math.abs((double) Float.intBitsToFloat((high + 1) << 16));
    double above = Double.isInfinite(next) ? 0x1p128 : next;
    double twice = 2 * Math.abs((double) exact);
    boolean up = twice > below + above || (twice == below + above && (high & 1) == 1);
    return up ? high + 1 : high;
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void anyLengthGridAndBlockConvertsExactlyItsRange(Device device) {
    for (int n : new int[] {1, 31, 32, 33, 255, 257, 1023, 5000}) {
      float[] values = new float[n];
      for (int i = 0; i < n; i++) {
        values[i] = i % 256 - 128;
      }
      for (int grid : new int[] {1, 3, 64}) {
        for (int block : new int[] {32, 256}) {
          try (Buffer in = device.allocate(4L * n);
              Buffer narrow = device.allocate(2L * n);
              Buffer out = device.allocate(4L * (n + 1))) {
            in.set(values);
            float[] before = new float[n + 1];
            before[n] = 7;
            out.set(before);
            Kernel down = device.kernel("convert_f32_bf16");
            device.launch(down, Grid.of(grid), block, 0, narrow, in, (long) n);
            Kernel up = device.kernel("convert_bf16_f32");
            device.launch(up, Grid.of(grid), block, 0, out, narrow, (long) n);
            float[] expected = Arrays.copyOf(values, n + 1);
            expected[n] = 7;
            assertArrayEquals(expected, out.toFloats(n + 1));
          }
        }
      }
    }
  }

  private static float[] widen(Device device, String kernel) {
    short[] patterns = new short[PATTERNS];
    for (int i = 0; i < PATTERNS; i++) {
      patterns[i] = (short) i;
    }
    try (Buffer in = device.allocate(2L * PATTERNS);
        Buffer out = device.allocate(4L * PATTERNS)) {
      in.copyFrom(MemorySegment.ofArray(patterns));
      device.launch(device.kernel(kernel), Grid.of(9), 64, 0, out, in, (long) PATTERNS);
      return out.toFloats(PATTERNS);
    }
  }

  /** Narrows every upper half with each of {@link #LOW} below it. */
  private static void assertNarrowed(Device device, String kernel, IntBinaryOperator reference) {
    int n = PATTERNS * LOW.length;
    int[] bits = new int[n];
    for (int i = 0; i < n; i++) {
      bits[i] = i / LOW.length << 16 | LOW[i % LOW.length];
    }
    short[] narrow = new short[n];
    try (Buffer in = device.allocate(4L * n);
        Buffer out = device.allocate(2L * n)) {
      in.set(bits);
      device.launch(device.kernel(kernel), Grid.of(7), 128, 0, out, in, (long) n);
      out.copyTo(MemorySegment.ofArray(narrow));
    }
    for (int i = 0; i < n; i++) {
      int expected =
          Float.isNaN(Float.intBitsToFloat(bits[i]))
              ? 0x7fff
              : reference.applyAsInt(bits[i] >>> 16, bits[i] & 0xffff);
      if (expected != (narrow[i] & 0xffff)) {
        assertEquals(expected, narrow[i] & 0xffff, "f32 0x%08x".formatted(bits[i]));
      }
    }
  }
}
