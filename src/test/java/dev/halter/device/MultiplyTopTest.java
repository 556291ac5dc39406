package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Top.Sign;
import dev.halter.model.Values;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The best entries and log-sum-exp of a product's rows, by what each device has for it and by tiles
 * and kernel top_tokens. With k = 1 and x = 1 a row of the product is any numbers one likes.
 */
class MultiplyTopTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float NONE = Float.NEGATIVE_INFINITY;
  private static final float NAN = Float.NaN;

  /** What was kept of m rows, S lists each. */
  private record Kept(int[] ids, float[] values, float[] logSums) {}

  private interface Product {
    void multiply(int m, int n, int k, Matrix x, Matrix w, Top top);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void keepsTheBestAndTheSumOfAll(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int n : new int[] {1, 31, 257, 1300}) {
        int k = n % 70 + 1;
        int m = 1 + n % 7;
        float[] x = random(m * k, n);
        float[] w = random(n * k, -n);
        for (Sign sign : Sign.values()) {
          int kept = sign == Sign.BOTH ? 64 : 5;
          Kept fused = run(device, device::multiplyTop, m, n, k, type, x, w, sign, kept);
          check(x, w, m, n, k, sign, kept, fused);
          try (TiledTop tiled = new TiledTop(device)) {
            check(
                x,
                w,
                m,
                n,
                k,
                sign,
                kept,
                run(device, tiled::multiply, m, n, k, type, x, w, sign, kept));
          }
        }
      }
    }
  }

  /** Against double arithmetic: numbers of a few bits make every sum exact, and ties likely. */
  private static void check(
      float[] x, float[] w, int m, int n, int k, Sign sign, int kept, Kept actual) {
    int lists = sign.lists();
    for (int row = 0; row < m; row++) {
      double[] entries = new double[n];
      for (int id = 0; id < n; id++) {
        for (int i = 0; i < k; i++) {
          entries[id] += (double) x[row * k + i] * w[id * k + i];
        }
      }
      for (int s = 0; s < lists; s++) {
        int factor = sign == Sign.MINUS || s == 1 ? -1 : 1;
        double[] list = Arrays.stream(entries).map(entry -> factor * entry).toArray();
        int[] best =
            IntStream.range(0, n)
                .boxed()
                .sorted(
                    Comparator.comparingDouble(
                        id -> sign == Sign.ABSOLUTE ? -Math.abs(list[id]) : -list[id]))
                .mapToInt(id -> id)
                .limit(kept)
                .toArray();
        int at = (row * lists + s) * kept;
        for (int i = 0; i < kept; i++) {
          assertEquals(i < n ? best[i] : -1, actual.ids[at + i]);
          assertEquals(i < n ? (float) list[best[i]] : NONE, actual.values[at + i]);
        }
        if (sign != Sign.ABSOLUTE) {
          double sum = Arrays.stream(list).map(Math::exp).sum();
          double allowed = 2e-6 * Math.max(1, Math.abs(Math.log(sum)));
          assertEquals(Math.log(sum), actual.logSums[row * lists + s], allowed);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void tilesAndTheOtherRowsChangeNothing(Device device) {
    int m = 5;
    int n = 3000;
    int k = 33;
    float[] x = random(m * k, 1);
    float[] w = random(n * k, 2);
    for (int i = 0; i < w.length; i++) {
      w[i] *= 0.37f; // sums that round
    }
    Kept whole;
    try (TiledTop tiled = new TiledTop(device)) {
      whole = run(device, tiled::multiply, m, n, k, DType.F32, x, w, Sign.BOTH, 20);
    }
    try (TiledTop tiled = new TiledTop(device, 2, 1024)) {
      assertSame(whole, run(device, tiled::multiply, m, n, k, DType.F32, x, w, Sign.BOTH, 20));
    }
    Kept all = run(device, device::multiplyTop, m, n, k, DType.F32, x, w, Sign.BOTH, 20);
    for (int row = 0; row < m; row++) {
      float[] own = Arrays.copyOfRange(x, row * k, row * k + k);
      Kept alone = run(device, device::multiplyTop, 1, n, k, DType.F32, own, w, Sign.BOTH, 20);
      int at = row * 2 * 20;
      assertSame(
          new Kept(
              Arrays.copyOfRange(all.ids, at, at + 40),
              Arrays.copyOfRange(all.values, at, at + 40),
              Arrays.copyOfRange(all.logSums, 2 * row, 2 * row + 2)),
          alone);
    }
  }

  /** The same; on a GPU entries that are equal but for rounding may change places. */
  private static void assertSame(Kept expected, Kept actual) {
    double allowed = SameBits.allowed(1e-4);
    SameBits.assertSame(expected.values, actual.values, 1e-4, "values");
    SameBits.assertSame(expected.logSums, actual.logSums, 1e-4, "log-sum-exps");
    for (int i = 0; i < expected.ids.length; i++) {
      boolean tie =
          i > 0 && Math.abs(expected.values[i] - expected.values[i - 1]) < allowed
              || i + 1 < expected.ids.length
                  && Math.abs(expected.values[i] - expected.values[i + 1]) < allowed;
      if (!tie) {
        assertEquals(expected.ids[i], actual.ids[i], "entry " + i);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void ofEqualEntriesTheLowestIdsComeFirst(Device device) {
    int n = 2100;
    float[] entries = new float[n];
    for (int i = 0; i < n; i++) {
      entries[i] = i % 3 - 1; // 700 equal ones for 64 places
    }
    int[] plus = IntStream.range(0, 64).map(i -> 3 * i + 2).toArray();
    int[] minus = IntStream.range(0, 64).map(i -> 3 * i).toArray();
    int[] absolute = IntStream.range(0, 64).map(i -> 3 * (i / 2) + 2 * (i % 2)).toArray();
    for (Product product : products(device)) {
      Kept both = row(device, product, Sign.BOTH, 64, entries);
      assertArrayEquals(plus, Arrays.copyOf(both.ids, 64));
      assertArrayEquals(minus, Arrays.copyOfRange(both.ids, 64, 128));
      Kept kept = row(device, product, Sign.ABSOLUTE, 64, entries);
      assertArrayEquals(absolute, kept.ids);
      assertEquals(-1, kept.values[0]);
      assertEquals(1, kept.values[1]);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void absentEntriesAreLeftOutWhereverTheyAre(Device device) {
    float[] entries = new float[2048];
    Arrays.fill(entries, NONE);
    float[] empty = entries.clone();
    entries[1500] = 1;
    entries[1501] = 2;
    for (Product product : products(device)) {
      Kept kept = row(device, product, Sign.PLUS, 3, entries);
      assertArrayEquals(new int[] {1501, 1500, -1}, kept.ids);
      assertArrayEquals(new float[] {2, 1, NONE}, kept.values);
      assertEquals(Math.log(Math.exp(1) + Math.exp(2)), kept.logSums[0], 1e-6);
      kept = row(device, product, Sign.PLUS, 1, empty);
      assertArrayEquals(new int[] {-1}, kept.ids);
      assertArrayEquals(new float[] {NONE}, kept.logSums);
      kept = row(device, product, Sign.ABSOLUTE, 2, entries);
      assertArrayEquals(new int[] {0, 1}, kept.ids, "-infinity is large in magnitude");
      assertArrayEquals(new float[] {NONE, NONE}, kept.values);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void notANumberIsSkippedByTheSelectionAndShowsInTheSum(Device device) {
    for (Product product : products(device)) {
      Kept kept = row(device, product, Sign.BOTH, 3, 3, NAN, 5, 4);
      assertArrayEquals(new int[] {2, 3, 0, 0, 3, 2}, kept.ids);
      assertArrayEquals(new float[] {NAN, NAN}, kept.logSums);
      kept = row(device, product, Sign.ABSOLUTE, 3, 3, NAN, -5, 4);
      assertArrayEquals(new int[] {2, 3, 0}, kept.ids);
      assertArrayEquals(new float[] {-5, 4, 3}, kept.values);
      kept = row(device, product, Sign.PLUS, 2, NAN);
      assertArrayEquals(new int[] {-1, -1}, kept.ids);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void logSumExpIsNotComputedUnlessAskedFor(Device device) {
    try (Buffer one = Values.buffer(device, DType.F32, new float[] {1});
        Buffer entries = Values.buffer(device, DType.F32, new float[] {1, 2, 3});
        Scope scope = device.scope()) {
      Top top = Top.allocate(scope, Sign.PLUS, 2, 1);
      top.logSum().set(7f, 8f);
      Top without = new Top(Sign.PLUS, 2, top.ids(), top.values(), null);
      Matrix x = new Matrix(one, DType.F32, 1);
      Matrix w = new Matrix(entries, DType.F32, 1);
      for (Product product : products(device)) {
        top.ids().set(0, 0);
        product.multiply(1, 3, 1, x, w, without);
        assertArrayEquals(new int[] {2, 1}, top.ids().toInts(2));
        assertArrayEquals(new float[] {7, 8}, top.logSum().toFloats(2));
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    float[] x = random(2 * 9, 3);
    float[] w = random(1500 * 9, 4); // with ties
    for (Sign sign : Sign.values()) {
      TestDevices.assertSchedulesAgree(
          device -> {
            try (TiledTop tiled = new TiledTop(device, 2, 1024)) {
              Kept kept = run(device, tiled::multiply, 2, 1500, 9, DType.F32, x, w, sign, 30);
              float[] all = new float[kept.ids.length + kept.values.length + kept.logSums.length];
              for (int i = 0; i < kept.ids.length; i++) {
                all[i] = kept.ids[i];
              }
              System.arraycopy(kept.values, 0, all, kept.ids.length, kept.values.length);
              int at = kept.ids.length + kept.values.length;
              System.arraycopy(kept.logSums, 0, all, at, kept.logSums.length);
              return all;
            }
          });
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void refusesWhatDoesNotFit(Device device) {
    for (int kept : new int[] {0, 65}) {
      var error =
          assertThrows(
              IllegalArgumentException.class,
              () -> Top.allocate(device.scope(), Sign.PLUS, kept, 1));
      assertTrue(error.getMessage().contains("1 to 64"), error.getMessage());
    }
    try (Buffer factor = Values.buffer(device, DType.F32, new float[] {1, 2, 3, 4});
        Scope scope = device.scope()) {
      Top top = Top.allocate(scope, Sign.BOTH, 2, 2);
      Matrix matrix = new Matrix(factor, DType.F32, 2);
      int[][] sizes = {{0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {3, 1, 1}, {1, 3, 1}, {1, 1, 3}};
      for (int[] size : sizes) {
        assertThrows(
            IllegalArgumentException.class,
            () -> device.multiplyTop(size[0], size[1], size[2], matrix, matrix, top));
      }
      assertThrows(
          IllegalArgumentException.class,
          () -> device.multiplyTop(2, 2, 2, matrix, matrix, top.from(1)));
      assertThrows(
          IllegalArgumentException.class,
          () -> new Top(Sign.ABSOLUTE, 1, top.ids(), top.values(), top.logSum()));
    }
  }

  private static List<Product> products(Device device) {
    return List.of(
        device::multiplyTop,
        (m, n, k, x, w, top) -> {
          try (TiledTop tiled = new TiledTop(device, 1, 1024)) {
            tiled.multiply(m, n, k, x, w, top);
          }
        });
  }

  /** What is kept of one row of these entries. */
  private static Kept row(Device device, Product product, Sign sign, int kept, float... entries) {
    float[] one = {1};
    return run(device, product, 1, entries.length, 1, DType.F32, one, entries, sign, kept);
  }

  private static Kept run(
      Device device,
      Product product,
      int m,
      int n,
      int k,
      DType type,
      float[] x,
      float[] w,
      Sign sign,
      int kept) {
    try (Buffer left = Values.buffer(device, type, x);
        Buffer right = Values.buffer(device, type, w);
        Scope scope = device.scope()) {
      Top top = Top.allocate(scope, sign, kept, m);
      product.multiply(m, n, k, new Matrix(left, type, k), new Matrix(right, type, k), top);
      int lists = m * sign.lists();
      return new Kept(
          top.ids().toInts(lists * kept),
          top.values().toFloats(lists * kept),
          sign == Sign.ABSOLUTE ? new float[0] : top.logSumExp(m));
    }
  }

  /** Multiples of 1/4 of a magnitude below 2. */
  private static float[] random(int n, long seed) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (random.nextInt(15) - 7) / 4f;
    }
    return values;
  }
}
