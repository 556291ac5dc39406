package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.cuda.TestCuda;

/**
 * What is the same whatever else a step computes: to the bit on every device but a GPU, whose
 * cuBLAS chooses other sums for other numbers of rows ({@code CudaDevice}); there within a bound
 * that a test states.
 */
public final class SameBits {
  private SameBits() {}

  /** How far results may lie apart: 0, and on a GPU {@code bound}. */
  public static double allowed(double bound) {
    return TestCuda.REAL ? bound : 0;
  }

  /** Fails unless two rows are the same, on a GPU to within {@code bound} in every value. */
  public static void assertSame(float[] expected, float[] actual, double bound, String what) {
    assertEquals(expected.length, actual.length, what);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], (float) allowed(bound), what + ", value " + i);
    }
  }
}
