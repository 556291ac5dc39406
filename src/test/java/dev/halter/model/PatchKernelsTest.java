package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels of {@code patch.cu}. */
class PatchKernelsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float EPS = 1e-5f;

  private static void launch(
      Device device, String kernel, DType type, int blocks, Object... arguments) {
    String name = type == null ? kernel : kernel + "_" + type.name().toLowerCase(Locale.ROOT);
    device.launch(device.kernel(name), Grid.of(blocks), 64, 0, arguments);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void cellsAreReplacedOrAddedToAndNothingElse(Device device) {
    int rows = 4;
    int[] cells = {3, 5, 1, 0, 0, 0, 3, 0, 2};
    int width = 5;
    int stride = 11;
    float[] values = Values.random(DType.F32, 3 * width, 2);
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int add : new int[] {0, 1}) {
        float[] before = Values.random(type, rows * stride, 1);
        float[] expected = before.clone();
        for (int c = 0; c < cells.length; c += 3) {
          for (int j = 0; j < width; j++) {
            int at = cells[c] * stride + cells[c + 1] + j;
            float value = values[cells[c + 2] * width + j];
            expected[at] = Values.narrow(type, add * expected[at] + value);
          }
        }
        try (Buffer to = Values.buffer(device, type, before);
            Buffer from = Values.buffer(device, DType.F32, values);
            Buffer where = Values.buffer(device, cells)) {
          int n = cells.length / 3;
          launch(device, "put_cells", type, n, to, from, where, width, (long) stride, add);
          assertArrayEquals(expected, Values.read(to, type, before.length));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatRowsShareIsAddedRoundAndRound(Device device) {
    int n = 3;
    int rows = 7;
    for (int d : Values.SIZES) {
      float[] x = Values.random(DType.F32, rows * d, d);
      float[] a = Values.random(DType.F32, n * d, d + 1);
      try (Buffer to = Values.buffer(device, DType.F32, x);
          Buffer from = Values.buffer(device, DType.F32, a)) {
        launch(device, "add_repeated", null, rows, to, from, n, d);
        float[] after = to.toFloats(x.length);
        for (int i = 0; i < x.length; i++) {
          assertEquals(x[i] + a[i / d % n * d + i % d], after[i]);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void logitsOfTokensAgreeWithDoubleArithmetic(Device device) {
    int rows = 5;
    int vocabulary = 9;
    int n = 2;
    int[] tokens = {8, -1, 0, 3};
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      for (int d : Values.SIZES) {
        float[] x = Values.random(DType.F32, rows * d, d);
        float[] gain = Values.random(DType.F32, d, d + 1);
        float[] head = Values.random(type, vocabulary * d, d + 2);
        float[] logits = tokenLogits(device, type, x, gain, head, tokens, n);
        for (int row = 0; row < rows; row++) {
          double squares = 0;
          for (int i = 0; i < d; i++) {
            squares += (double) x[row * d + i] * x[row * d + i];
          }
          double rms = Math.sqrt(squares / d + EPS);
          for (int j = 0; j < 2; j++) {
            int token = tokens[row % n * 2 + j];
            double expected = 0;
            double magnitude = 0;
            for (int i = 0; token >= 0 && i < d; i++) {
              double term = (double) x[row * d + i] * gain[i] * head[token * d + i] / rms;
              expected += term;
              magnitude += Math.abs(term);
            }
            assertEquals(expected, logits[2 * row + j], 1e-5 * magnitude);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowTooLargeForItsNormHasNoLogit(Device device) {
    int d = 33;
    float[] x = Values.random(DType.F32, 3 * d, 1);
    x[d + 4] = 1e30f;
    float[] gain = Values.random(DType.F32, d, 2);
    float[] head = Values.random(DType.F32, 2 * d, 3);
    float[] logits = tokenLogits(device, DType.F32, x, gain, head, new int[] {1, 0}, 1);
    for (int i = 0; i < logits.length; i++) {
      assertTrue(Float.isNaN(logits[i]) == (i / 2 == 1), i + " is " + logits[i]);
    }
  }

  private static float[] tokenLogits(
      Device device, DType type, float[] x, float[] gain, float[] head, int[] tokens, int n) {
    int d = gain.length;
    int rows = x.length / d;
    try (Buffer from = Values.buffer(device, DType.F32, x);
        Buffer gains = Values.buffer(device, DType.F32, gain);
        Buffer weights = Values.buffer(device, type, head);
        Buffer answers = Values.buffer(device, tokens);
        Buffer out = device.allocate(8L * rows)) {
      launch(device, "token_logits", type, rows, out, from, gains, d, EPS, weights, answers, 2, n);
      return out.toFloats(2 * rows);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void dotProductsOfPartsAgreeWithDoubleArithmetic(Device device) {
    int rows = 2;
    int parts = 3;
    for (int width : Values.SIZES) {
      float[] a = Values.random(DType.F32, rows * parts * width, width);
      float[] b = Values.random(DType.F32, rows * parts * width, width + 1);
      float[] dots = dots(device, a, b, rows, parts);
      for (int part = 0; part < rows * parts; part++) {
        double expected = 0;
        double magnitude = 0;
        for (int i = part * width; i < (part + 1) * width; i++) {
          expected += (double) a[i] * b[i];
          magnitude += Math.abs((double) a[i] * b[i]);
        }
        assertEquals(expected, dots[part], 1e-6 * magnitude);
      }
    }
  }

  private static float[] dots(Device device, float[] a, float[] b, int rows, int parts) {
    try (Buffer left = Values.buffer(device, DType.F32, a);
        Buffer right = Values.buffer(device, DType.F32, b);
        Buffer out = device.allocate(4L * rows * parts)) {
      int width = a.length / rows / parts;
      Grid grid = Grid.of(rows, parts);
      device.launch(device.kernel("dot_parts"), grid, 64, 0, out, left, right, width);
      return out.toFloats(rows * parts);
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    float[] x = Values.random(DType.F32, 3 * 257, 1);
    float[] gain = Values.random(DType.F32, 257, 2);
    float[] head = Values.random(DType.BF16, 4 * 257, 3);
    TestDevices.assertSchedulesAgree(
        device -> tokenLogits(device, DType.BF16, x, gain, head, new int[] {3, 1, 0, 2}, 2));
    TestDevices.assertSchedulesAgree(device -> dots(device, x, x, 1, 3));
  }
}
