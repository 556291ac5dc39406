package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Top;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ProductTest {
  private static float[] random(int count, long seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static Matrix matrix(Device device, float[] values, int columns) {
    Buffer buffer = device.allocate(4L * values.length);
    buffer.set(values);
    return new Matrix(buffer, DType.F32, columns);
  }

  /** x[m,k] · w[n,k]ᵀ on the CPU with so many threads. */
  private static float[] product(int threads, int m, int n, int k, float[] x, float[] w) {
    try (Device device = CpuDevice.open(threads)) {
      Matrix out = matrix(device, new float[m * n], n);
      device.multiply(m, n, k, matrix(device, x, k), matrix(device, w, k), out);
      return out.buffer().toFloats(m * n);
    }
  }

  @Test
  void everyKernelOfThisCpuAgreesWithDoubleArithmeticAndWithOneDnn() throws Exception {
    Path test = Path.of(System.getProperty("halter.native"), "test", "gemm-test");
    Process process =
        new ProcessBuilder(test.toString(), System.getProperty("halter.onednn"))
            .redirectErrorStream(true)
            .start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(10, TimeUnit.MINUTES));
    assertEquals(0, process.exitValue(), output);
    System.out.print(output); // which kernels those were, and what oneDNN has not
    if ("avx2".equals(System.getenv("HALTER_MAX_ISA"))) {
      assertTrue(output.contains("gemm (avx2): ok"), output);
      assertTrue(output.contains("oneDNN has no bf16 product on this CPU: not compared"), output);
    }
  }

  @Test
  void rowIsTheSameAloneAsInABatchOnAnyNumberOfThreads() {
    int m = 37;
    int n = 301;
    int k = 1029;
    float[] x = random(m * k, 1);
    float[] w = random(n * k, 2);
    float[] together = product(1, m, n, k, x, w);
    assertArrayEquals(together, product(2, m, n, k, x, w), 0f);
    for (int row : new int[] {0, 17, 36}) {
      float[] alone = product(2, 1, n, k, Arrays.copyOfRange(x, row * k, (row + 1) * k), w);
      assertArrayEquals(Arrays.copyOfRange(together, row * n, (row + 1) * n), alone, 0f);
    }
    double expected = 0;
    for (int i = 0; i < k; i++) {
      expected += (double) x[5 * k + i] * w[7 * k + i];
    }
    assertEquals(expected, together[5 * n + 7], 1e-3);
  }

  @Test
  void oneDnnMultipliesOnlyWhileItIsAskedFor() {
    int m = 3;
    int n = 67;
    int k = 2048;
    float[] x = random(m * k, 5);
    float[] w = random(n * k, 6);
    float[] own = product(2, m, n, k, x, w);
    try (Device device = CpuDevice.open(2, Path.of(System.getProperty("halter.onednn")))) {
      Matrix out = matrix(device, new float[m * n], n);
      device.multiply(m, n, k, matrix(device, x, k), matrix(device, w, k), out);
      float[] theirs = out.buffer().toFloats(m * n);
      assertArrayEquals(own, theirs, 1e-3f);
      assertFalse(Arrays.equals(own, theirs), "sums in another order differ in their last bits");
    }
    assertArrayEquals(own, product(2, m, n, k, x, w), 0f);
    assertThrows(DeviceException.class, () -> CpuDevice.open(2, Path.of("/nowhere")));
    assertArrayEquals(own, product(2, m, n, k, x, w), 0f);
  }

  @Test
  void bestEntriesFromOneDnnsProductsAgreeWithOurs() {
    int m = 1100; // more than a block, and a product's columns
    int n = 800;
    int k = 65;
    float[] x = random(m * k, 7);
    float[] w = random(n * k, 8);
    Kept own = best(null, m, n, k, x, w);
    Kept theirs = best(Path.of(System.getProperty("halter.onednn")), m, n, k, x, w);
    assertArrayEquals(own.values, theirs.values, 1e-4f);
    assertArrayEquals(own.sums, theirs.sums, 1e-4f);
  }

  private record Kept(float[] values, float[] sums) {}

  private static Kept best(Path onednn, int m, int n, int k, float[] x, float[] w) {
    try (Device device = CpuDevice.open(2, onednn);
        Scope scope = device.scope()) {
      Top top = Top.allocate(scope, Top.Sign.BOTH, 3, m);
      device.multiplyTop(m, n, k, matrix(device, x, k), matrix(device, w, k), top);
      return new Kept(top.values().toFloats(m * 2 * 3), top.logSumExp(m));
    }
  }
}
