package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code rmsnorm_*}. */
class RmsNormTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float EPS = 1e-5f;
  private static final int ROWS = 3;

  /** Odd ones, and multiples of a pack up to what a block keeps in registers, and above that. */
  private static final int[] SIZES =
      IntStream.concat(Arrays.stream(Values.SIZES), IntStream.of(8, 264, 4096, 4100, 8200))
          .toArray();

  private record Normed(float[] out, float[] scale, float[] normalized) {}

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmetic(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int d : SIZES) {
        float[] x = Values.random(DType.F32, ROWS * d, d);
        float[] weight = Values.random(DType.F32, d, d + 1);
        Normed normed = run(device, type, x, weight, true);
        for (int row = 0; row < ROWS; row++) {
          double squares = 0;
          for (int i = 0; i < d; i++) {
            squares += (double) x[row * d + i] * x[row * d + i];
          }
          double scale = Math.sqrt(squares / d + EPS);
          assertEquals(scale, normed.scale[row], 1e-6 * scale);
          for (int i = 0; i < d; i++) {
            double normalized = x[row * d + i] / scale;
            assertEquals(normalized, normed.normalized[row * d + i], 1e-5);
            double expected = normalized * weight[i];
            double tolerance = type == DType.F32 ? 1e-5 : 0.004;
            assertEquals(
                expected, normed.out[row * d + i], tolerance * Math.max(1, Math.abs(expected)));
          }
        }
        assertArrayEquals(normed.out, run(device, type, x, weight, false).out);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowWithoutNumbersOrTooLargeOnesKeepsThatToItself(Device device) {
    for (int d : new int[] {33, 264}) {
      checkDamaged(device, d);
    }
  }

  private static void checkDamaged(Device device, int d) {
    float[] x = Values.random(DType.F32, ROWS * d, 1);
    float[] weight = Values.random(DType.F32, d, 2);
    float[] plain = run(device, DType.F32, x, weight, true).out;
    for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, 1e30f}) {
      float[] damaged = x.clone();
      damaged[d + 5] = bad;
      float[] out = run(device, DType.F32, damaged, weight, true).out;
      for (int i = 0; i < out.length; i++) {
        if (i / d == 1) {
          assertTrue(Float.isNaN(out[i]), bad + " gives " + out[i]);
        } else {
          assertEquals(plain[i], out[i]);
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    for (int d : new int[] {257, 264}) {
      float[] x = Values.random(DType.F32, ROWS * d, 1);
      float[] weight = Values.random(DType.F32, d, 2);
      TestDevices.assertSchedulesAgree(
          device -> {
            Normed normed = run(device, DType.BF16, x, weight, true);
            return AttentionRun.concatenate(normed.out, normed.scale, normed.normalized);
          });
    }
  }

  private static Normed run(
      Device device, DType type, float[] values, float[] gain, boolean capture) {
    int d = gain.length;
    try (Buffer out = device.allocate((long) values.length * type.bytes());
        Buffer x = Values.buffer(device, DType.F32, values);
        Buffer weight = Values.buffer(device, DType.F32, gain);
        Buffer scale = device.allocate(4L * ROWS);
        Buffer normalized = device.allocate(4L * values.length);
        Buffer slots = Values.buffer(device, new int[ROWS])) {
      new RowKernels(device, type)
          .norm(
              new RowKernels.Norm(weight, EPS, null),
              out,
              x,
              ROWS,
              d,
              capture ? new Positionwise.Norms(scale, normalized) : null,
              new Edits(null, slots, null));
      assertTrue(Arrays.equals(values, x.toFloats(values.length)), "the input is left as it was");
      return new Normed(
          Values.read(out, type, values.length),
          capture ? scale.toFloats(ROWS) : null,
          capture ? normalized.toFloats(values.length) : null);
    }
  }
}
