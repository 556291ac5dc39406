package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Values;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Products of factors that lie transposed in memory: what gradients are made of. */
class TransposedProductTest {
  private static final int[][] SHAPES = {{1, 1, 1}, {33, 31, 5}, {7, 257, 33}, {40, 3, 1023}};

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void everyFormAgreesWithDoubleArithmetic(Device device) {
    check(device);
  }

  @Test
  @EnabledIfSystemProperty(
      named = "halter.onednn",
      matches = ".+",
      disabledReason = "what tools/gpu/bundle packs for a card is without oneDNN")
  void oneDnnToo() {
    try (Device device = CpuDevice.open(2, Path.of(System.getProperty("halter.onednn")))) {
      check(device);
    }
  }

  private static void check(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int[] shape : SHAPES) {
        for (int form = 0; form < 4; form++) {
          check(device, type, shape[0], shape[1], shape[2], (form & 1) != 0, (form & 2) != 0);
        }
      }
    }
  }

  private static void check(
      Device device, DType type, int m, int n, int k, boolean xTransposed, boolean wTransposed) {
    int gap = 3; // strides are longer than rows
    int xStride = (xTransposed ? m : k) + gap;
    int wStride = (wTransposed ? n : k) + gap;
    float[] xs = Values.random(type, (xTransposed ? k : m) * xStride, 1);
    float[] ws = Values.random(type, (wTransposed ? k : n) * wStride, 2);
    try (Buffer x = Values.buffer(device, type, xs);
        Buffer w = Values.buffer(device, type, ws);
        Buffer out = device.allocate(4L * m * n)) {
      device.multiply(
          m,
          n,
          k,
          new Matrix(x, type, xStride, xTransposed),
          new Matrix(w, type, wStride, wTransposed),
          new Matrix(out, DType.F32, n));
      float[] actual = out.toFloats(m * n);
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
          double expected = 0;
          double size = 0;
          for (int l = 0; l < k; l++) {
            double term =
                (double) xs[xTransposed ? l * xStride + i : i * xStride + l]
                    * ws[wTransposed ? l * wStride + j : j * wStride + l];
            expected += term;
            size += Math.abs(term);
          }
          assertEquals(expected, actual[i * n + j], 2e-6 * size, "at " + i + ", " + j);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void refusesWhatDoesNotFitAndATransposedResult(Device device) {
    try (Buffer buffer = device.allocate(4 * 12)) {
      Matrix matrix = new Matrix(buffer, DType.F32, 4); // 3 x 4
      Matrix turned = matrix.transpose(); // 4 x 3
      assertThrows(
          IllegalArgumentException.class, () -> device.multiply(4, 1, 4, turned, matrix, matrix));
      String message =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> device.multiply(3, 1, 4, matrix, matrix, turned))
              .getMessage();
      assertTrue(message.contains("not transposed"), message);
      Top top = new Top(Top.Sign.PLUS, 1, buffer, buffer, null);
      assertThrows(
          IllegalArgumentException.class, () -> device.multiplyTop(1, 1, 3, matrix, turned, top));
    }
  }

  @Test
  void viewsFollowTheMatrixNotTheMemory() {
    try (Device device = CpuDevice.open(1);
        Buffer buffer = device.allocate(4 * 12)) {
      Matrix matrix = new Matrix(buffer, DType.F32, 4);
      assertEquals(32, matrix.from(2).buffer().address() - buffer.address());
      assertEquals(8, matrix.columnsFrom(2).buffer().address() - buffer.address());
      assertEquals(8, matrix.transpose().from(2).buffer().address() - buffer.address());
      assertEquals(matrix, matrix.transpose().transpose());
    }
  }
}
