package dev.halter.device.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.TiledTop;
import dev.halter.device.Top;
import dev.halter.device.Top.Sign;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.device.cuda.TensorTop.Cut;
import dev.halter.device.cuda.TensorTop.Form;
import dev.halter.device.cuda.TensorTop.TensorMaps;
import dev.halter.device.cuda.TestCuda.StandIn;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * The kernels that keep a product's best entries on tensor cores: on the GPU where tests have one,
 * and else their text on faithful blocks and clusters, with wgmma, tensor copies and the rest done
 * in software.
 */
class TensorTopTest {
  private static final float NONE = Float.NEGATIVE_INFINITY;

  /**
   * The only form to test, if there is one: a kernel that hangs must not cost the other's tests.
   */
  private static final String ONLY = System.getProperty("halter.test.form");

  /** What was kept of m rows, S lists each. */
  private record Kept(int[] ids, float[] values, float[] logSums) {}

  private record Case(int m, int n, int k, Sign sign, int kept) {}

  /** Runs a test on the GPU, or on faithful blocks in these orders. */
  private static void on(Form form, Consumer<Device> test, Schedule... schedules) {
    assumeTrue(ONLY == null || ONLY.equals(form.name()), "only " + ONLY);
    if (TestCuda.REAL) {
      try (Device device = open(form)) {
        test.accept(device);
      }
      return;
    }
    for (Schedule schedule : schedules) {
      try (Device device = CpuDevice.openFaithful(schedule, 1)) {
        test.accept(device);
      }
    }
  }

  /**
   * CUDA with this form asked for, on a card that has it; without such a card the test is skipped.
   */
  private static Device open(Form form) {
    assumeTrue(ONLY == null || ONLY.equals(form.name()), "only " + ONLY);
    if (TestCuda.REAL && form == Form.SM90) {
      try (Device card = TestCuda.open()) {
        assumeTrue(card.description().contains("(sm_90)"), "needs a card of sm_90");
      }
    }
    System.setProperty(CudaDevice.MULTIPLY_TOP, form.name().toLowerCase(Locale.ROOT));
    try {
      if (!TestCuda.REAL) {
        StandIn.set("capability", form == Form.SM90 ? 90 : 86);
      }
      return TestCuda.open();
    } finally {
      System.clearProperty(CudaDevice.MULTIPLY_TOP);
    }
  }

  private static TensorTop top(Device device, Form form, int multiprocessors) {
    return top(device, form, multiprocessors, device::encodeTensorMap);
  }

  private static TensorTop top(Device device, Form form, int multiprocessors, TensorMaps maps) {
    int limit = form == Form.SM90 ? 232_448 : 101_376;
    return new TensorTop(device, maps, form, multiprocessors, limit, limit + 1024, Arena.ofAuto());
  }

  private static Kept run(
      Device device, Form form, int multiprocessors, Case c, float[] x, float[] w) {
    return run(device, form, multiprocessors, null, c, x, w);
  }

  /** With w cut up in this way, but on a GPU; null stands for the cut that is chosen. */
  private static Kept run(
      Device device, Form form, int multiprocessors, Cut cut, Case c, float[] x, float[] w) {
    try (Buffer left = bf16(device, x);
        Buffer right = bf16(device, w);
        Scope scope = device.scope()) {
      Top top = Top.allocate(scope, c.sign, c.kept, c.m);
      Matrix a = new Matrix(left, DType.BF16, c.k);
      Matrix b = new Matrix(right, DType.BF16, c.k);
      if (TestCuda.REAL) {
        device.multiplyTop(c.m, c.n, c.k, a, b, top);
      } else {
        try (TensorTop tensor = top(device, form, multiprocessors)) {
          Cut chosen = tensor.cut(c.m, c.n, c.k, top);
          tensor.multiplyRows(c.m, c.n, c.k, a, b, top, cut == null ? chosen : cut);
        }
      }
      int lists = c.m * c.sign.lists();
      return new Kept(
          top.ids().toInts(lists * c.kept),
          top.values().toFloats(lists * c.kept),
          c.sign == Sign.ABSOLUTE ? new float[0] : top.logSumExp(c.m));
    }
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void keepsTheBestAndTheSumOfAll(Form form) {
    List<Case> cases =
        List.of(
            new Case(1, 1, 8, Sign.PLUS, 1),
            new Case(130, 31, 8, Sign.MINUS, 32),
            new Case(17, 257, 64, Sign.ABSOLUTE, 7),
            new Case(257, 300, 72, Sign.BOTH, 32),
            new Case(3, 2049, 200, Sign.BOTH, 10),
            new Case(65, 4500, 16, Sign.PLUS, 4));
    on(
        form,
        device -> {
          for (Case c : cases) {
            float[] x = random(c.m * c.k, c.n);
            float[] w = random(c.n * c.k, -c.n);
            check(c, x, w, run(device, form, 4, c, x, w));
          }
        },
        Schedule.values());
  }

  /** Against double arithmetic: numbers of a few bits make every sum exact, and ties likely. */
  private static void check(Case c, float[] x, float[] w, Kept actual) {
    int lists = c.sign.lists();
    for (int row = 0; row < c.m; row++) {
      double[] entries = new double[c.n];
      for (int id = 0; id < c.n; id++) {
        for (int i = 0; i < c.k; i++) {
          entries[id] += (double) x[row * c.k + i] * w[id * c.k + i];
        }
      }
      for (int s = 0; s < lists; s++) {
        int factor = c.sign == Sign.MINUS || s == 1 ? -1 : 1;
        double[] list = Arrays.stream(entries).map(entry -> factor * entry).toArray();
        int[] best =
            IntStream.range(0, c.n)
                .boxed()
                .sorted(
                    Comparator.comparingDouble(
                        id -> c.sign == Sign.ABSOLUTE ? -Math.abs(list[id]) : -list[id]))
                .mapToInt(id -> id)
                .limit(c.kept)
                .toArray();
        int at = (row * lists + s) * c.kept;
        for (int i = 0; i < c.kept; i++) {
          assertEquals(i < c.n ? best[i] : -1, actual.ids[at + i], c + ", row " + row);
          assertEquals(i < c.n ? (float) list[best[i]] : NONE, actual.values[at + i], 0.0);
        }
        if (c.sign != Sign.ABSOLUTE) {
          double sum = Arrays.stream(list).map(Math::exp).sum();
          double allowed = 1e-5 * Math.max(1, Math.abs(Math.log(sum)));
          assertEquals(Math.log(sum), actual.logSums[row * lists + s], allowed, c.toString());
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void neitherOtherRowsNorTheCutOfTheWorkChangeABit(Form form) {
    Case c = new Case(260, 4200, 40, Sign.BOTH, 9);
    float[] x = random(c.m * c.k, 1);
    float[] w = random(c.n * c.k, 2);
    for (int i = 0; i < w.length; i++) {
      w[i] *= 0.37f; // sums that round
    }
    on(
        form,
        device -> {
          // So many multiprocessors that w is cut into all its segments, and too few for any cut.
          Kept cut = run(device, form, 64, c, x, w);
          for (Cut other : List.of(new Cut(0, 3), new Cut(1, 1), new Cut(1, 2), new Cut(2, 1))) {
            assertSameBits(cut, run(device, form, 4, other, c, x, w));
          }
          for (int row : new int[] {0, 131, 259}) {
            float[] own = Arrays.copyOfRange(x, row * c.k, row * c.k + c.k);
            Kept alone = run(device, form, 4, new Case(1, c.n, c.k, c.sign, c.kept), own, w);
            int at = row * 2 * c.kept;
            assertArrayEquals(Arrays.copyOfRange(cut.ids, at, at + 2 * c.kept), alone.ids);
            assertArrayEquals(Arrays.copyOfRange(cut.values, at, at + 2 * c.kept), alone.values);
            assertArrayEquals(Arrays.copyOfRange(cut.logSums, 2 * row, 2 * row + 2), alone.logSums);
          }
        },
        Schedule.RANDOM);
  }

  private static void assertSameBits(Kept expected, Kept actual) {
    assertArrayEquals(expected.ids, actual.ids);
    assertArrayEquals(expected.values, actual.values);
    assertArrayEquals(expected.logSums, actual.logSums);
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void listsOfSplitsWithSeedsAreThoseOfTheWhole(Form form) {
    assumeTrue(!TestCuda.REAL, "cuts are chosen there");
    on(
        form,
        device -> {
          for (Sign sign : Sign.values()) {
            for (int kept : new int[] {1, 10, 32}) {
              // More than one block or cluster of rows, four segments, few different values.
              Case c = new Case(form == Form.SM90 ? 260 : 130, 6200, 8, sign, kept);
              float[] x = random(c.m * c.k, kept);
              float[] w = random(c.n * c.k, -kept);
              Kept seeded = run(device, form, 4, new Cut(1, 2), c, x, w);
              assertSameBits(run(device, form, 4, new Cut(0, 4), c, x, w), seeded);
              if (kept == 10) {
                check(c, x, w, seeded);
              }
            }
          }
        },
        Schedule.RANDOM);
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void whatIsNotAboveTheSeedIsNoResult(Form form) {
    int segment = 2048;
    float[] tied = new float[3 * segment + 9];
    for (int id : new int[] {3, 700, segment - 1, segment, segment + 5, 2 * segment, 3 * segment}) {
      tied[id] = 5;
    }
    tied[2 * segment - 1] = 6;
    tied[3 * segment + 8] = -7;
    float[] few = new float[3 * segment + 9]; // a first segment with fewer than are kept
    Arrays.fill(few, 0, segment, NONE);
    few[17] = -2;
    few[segment] = Float.NaN;
    on(
        form,
        device -> {
          Kept best = row(device, form, Sign.PLUS, 3, tied);
          assertArrayEquals(new int[] {2 * segment - 1, 3, 700}, best.ids);
          best = row(device, form, Sign.BOTH, 6, tied);
          assertArrayEquals(
              new int[] {
                2 * segment - 1,
                3,
                700,
                segment - 1,
                segment,
                segment + 5,
                3 * segment + 8,
                0,
                1,
                2,
                4,
                5
              },
              best.ids);
          best = row(device, form, Sign.ABSOLUTE, 4, tied);
          assertArrayEquals(new int[] {3 * segment + 8, 2 * segment - 1, 3, 700}, best.ids);
          best = row(device, form, Sign.PLUS, 2, few);
          assertArrayEquals(new int[] {segment + 1, segment + 2}, best.ids);
          assertArrayEquals(new float[] {Float.NaN}, best.logSums);
          best = row(device, form, Sign.MINUS, 1, few);
          assertArrayEquals(new int[] {0}, best.ids, "infinity");
        },
        Schedule.values());
  }

  @Test
  void manyRowsAreCutSoThatBlocksShareWhatTheyRead() {
    assumeTrue(!TestCuda.REAL, "cuts are chosen there");
    try (Device device = CpuDevice.openFaithful(Schedule.FORWARD, 1);
        Scope scope = device.scope();
        TensorTop h200 = top(device, Form.SM90, 132)) {
      Top top = Top.allocate(scope, Sign.BOTH, 10, 1);
      for (int m : new int[] {16_384, 65_536, 67_584}) {
        Cut cut = h200.cut(m, 128_256, 4096, top);
        int splits = cut.splits(63);
        assertTrue(cut.first() >= 1 && splits >= 5 && splits <= 12, m + ": " + cut);
        assertTrue(cut.first() + (splits - 2) * cut.each() < 63, "no split without rows");
      }
      assertEquals(new Cut(0, 1), h200.cut(1, 128_256, 4096, top));
      assertEquals(new Cut(0, 2), h200.cut(512, 128_256, 4096, top));
      assertEquals(new Cut(0, 1), h200.cut(65_536, 100, 4096, top));
    }
  }

  /** With x = (1, 0, ...) a row of the product is any numbers one likes, however w is cut. */
  private static Kept row(Device device, Form form, Sign sign, int kept, float... entries) {
    float[] x = {1, 0, 0, 0, 0, 0, 0, 0};
    float[] w = new float[8 * entries.length];
    for (int i = 0; i < entries.length; i++) {
      w[8 * i] = entries[i];
    }
    Case c = new Case(1, entries.length, 8, sign, kept);
    Kept result = run(device, form, 4, c, x, w);
    if (entries.length > 2048) {
      assertSameBits(result, run(device, form, 4, new Cut(1, 1), c, x, w));
    }
    return result;
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void ofEqualEntriesTheLowestIdsComeFirst(Form form) {
    float[] entries = new float[2100];
    for (int i = 0; i < entries.length; i++) {
      entries[i] = i % 3 - 1; // 700 equal ones for 32 places
    }
    float[] zeros = new float[300];
    for (int i = 0; i < zeros.length; i++) {
      zeros[i] = i % 2 == 0 ? -0.0f : 0.0f;
    }
    on(
        form,
        device -> {
          Kept both = row(device, form, Sign.BOTH, 32, entries);
          for (int i = 0; i < 32; i++) {
            assertEquals(3 * i + 2, both.ids[i]);
            assertEquals(3 * i, both.ids[32 + i]);
          }
          Kept kept = row(device, form, Sign.ABSOLUTE, 32, entries);
          for (int i = 0; i < 32; i++) {
            assertEquals(3 * (i / 2) + 2 * (i % 2), kept.ids[i]);
            assertEquals(i % 2 == 0 ? -1 : 1, kept.values[i]);
          }
          int[] first = IntStream.range(0, 32).toArray();
          assertArrayEquals(first, row(device, form, Sign.PLUS, 32, zeros).ids);
          assertArrayEquals(first, row(device, form, Sign.MINUS, 32, zeros).ids);
          assertArrayEquals(first, row(device, form, Sign.ABSOLUTE, 32, zeros).ids);
        },
        Schedule.values());
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void absentEntriesAreLeftOutAndNotANumberShowsInTheSum(Form form) {
    float[] entries = new float[2300];
    Arrays.fill(entries, NONE);
    float[] empty = entries.clone();
    entries[1500] = 1;
    entries[2101] = 2;
    float nan = Float.NaN;
    float infinity = Float.POSITIVE_INFINITY;
    on(
        form,
        device -> {
          Kept kept = row(device, form, Sign.PLUS, 3, entries);
          assertArrayEquals(new int[] {2101, 1500, -1}, kept.ids);
          assertArrayEquals(new float[] {2, 1, NONE}, kept.values);
          assertEquals(Math.log(Math.exp(1) + Math.exp(2)), kept.logSums[0], 1e-6);
          kept = row(device, form, Sign.PLUS, 1, empty);
          assertArrayEquals(new int[] {-1}, kept.ids);
          assertArrayEquals(new float[] {NONE}, kept.logSums);
          kept = row(device, form, Sign.ABSOLUTE, 2, entries);
          assertArrayEquals(new int[] {0, 1}, kept.ids, "-infinity is large in magnitude");
          assertArrayEquals(new float[] {NONE, NONE}, kept.values);
          kept = row(device, form, Sign.BOTH, 3, 3, nan, 5, 4);
          assertArrayEquals(new int[] {2, 3, 0, 0, 3, 2}, kept.ids);
          assertArrayEquals(new float[] {nan, nan}, kept.logSums);
          kept = row(device, form, Sign.ABSOLUTE, 4, 3, nan, -5, 4);
          assertArrayEquals(new int[] {2, 3, 0, -1}, kept.ids);
          assertArrayEquals(new float[] {-5, 4, 3, NONE}, kept.values);
          kept = row(device, form, Sign.PLUS, 2, 7, infinity, 8);
          assertArrayEquals(new int[] {1, 2}, kept.ids);
          assertArrayEquals(new float[] {infinity, 8}, kept.values);
        },
        Schedule.values());
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void schedulesAgreeBitByBit(Form form) {
    for (Sign sign : List.of(Sign.BOTH, Sign.ABSOLUTE)) {
      Case c = new Case(140, 2500, 72, sign, 11);
      float[] x = random(c.m * c.k, 3);
      float[] w = random(c.n * c.k, 4);
      TestDevices.assertSchedulesAgree(
          device -> {
            Kept kept = run(device, form, 4, c, x, w);
            float[] all = new float[kept.ids.length + kept.values.length + kept.logSums.length];
            for (int i = 0; i < kept.ids.length; i++) {
              all[i] = kept.ids[i];
            }
            System.arraycopy(kept.values, 0, all, kept.ids.length, kept.values.length);
            int at = kept.ids.length + kept.values.length;
            System.arraycopy(kept.logSums, 0, all, at, kept.logSums.length);
            return all;
          });
    }
  }

  @Test
  void kernelThatComputesSomethingElseIsNoticedAtEveryProduct() {
    if (TestCuda.REAL) {
      return;
    }
    try (Device device = CpuDevice.openFaithful(Schedule.FORWARD, 1);
        Buffer factor = bf16(device, random(64, 1));
        Scope scope = device.scope();
        TensorTop right = top(device, Form.SM90, 4);
        TensorTop wrong =
            top(
                device,
                Form.SM90,
                4,
                (map, matrix, rows, columns, boxRows) ->
                    device.encodeTensorMap(map, matrix, rows, columns - 1, boxRows))) {
      Top best = Top.allocate(scope, Sign.PLUS, 2, 2);
      Matrix matrix = new Matrix(factor, DType.BF16, 8);
      right.multiply(2, 8, 8, matrix, matrix, best);
      for (int time = 1; time <= 2; time++) {
        var error =
            assertThrows(
                DeviceException.class, () -> wrong.multiply(2, 8, 8, matrix, matrix, best));
        assertTrue(error.getMessage().contains("multiply_top_sm90"), error.getMessage());
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Form.class)
  void cudaDeviceUsesTheKernelAskedForWhereItFits(Form form) {
    Case fits = new Case(40, 2300, 24, Sign.BOTH, 10);
    Case tooMany = new Case(3, 500, 24, Sign.BOTH, 33);
    Case odd = new Case(3, 500, 25, Sign.PLUS, 3);
    try (Device device = open(form)) {
      String name = "multiply_top_" + form.name().toLowerCase(Locale.ROOT);
      assertTrue(device.details().toString().contains(name), device.details().toString());
      for (Case c : List.of(fits, tooMany, odd)) {
        float[] x = random(c.m * c.k, c.n);
        float[] w = random(c.n * c.k, -c.n);
        try (Buffer left = bf16(device, x);
            Buffer right = bf16(device, w);
            Scope scope = device.scope()) {
          Top top = Top.allocate(scope, c.sign, c.kept, c.m);
          Matrix a = new Matrix(left, DType.BF16, c.k);
          Matrix b = new Matrix(right, DType.BF16, c.k);
          assertEquals(c.equals(fits), TensorTop.takes(c.k, a, b, top));
          assertFalse(TensorTop.takes(8, new Matrix(left, DType.F32, 8), b, top));
          device.multiplyTop(c.m, c.n, c.k, a, b, top);
          int lists = c.m * c.sign.lists();
          check(
              c,
              x,
              w,
              new Kept(
                  top.ids().toInts(lists * c.kept),
                  top.values().toFloats(lists * c.kept),
                  top.logSumExp(c.m)));
        }
      }
    }
  }

  /** All of it, to the bit: numbers of a few bits make every sum exact. */
  @ParameterizedTest
  @EnumSource(Form.class)
  void agreesWithCublasAtTheShapeOfLlama(Form form) {
    assumeTrue(TestCuda.REAL, "needs a GPU");
    int m = 16_384;
    int n = 128_256;
    int k = 4096;
    try (Device device = open(form);
        Buffer x = bf16(device, small(m * k, 1));
        Buffer w = bf16(device, small(n * k, 2));
        TiledTop tiled = new TiledTop(device)) {
      Matrix a = new Matrix(x, DType.BF16, k);
      Matrix b = new Matrix(w, DType.BF16, k);
      for (Sign sign : Sign.values()) {
        int lists = m * sign.lists();
        int kept = sign == Sign.ABSOLUTE ? 8 : 32;
        try (Scope scope = device.scope()) {
          Top expected = Top.allocate(scope, sign, kept, m);
          Top mine = Top.allocate(scope, sign, kept, m);
          device.multiplyTop(m, n, k, a, b, mine);
          tiled.multiply(m, n, k, a, b, expected);
          assertArrayEquals(expected.ids().toInts(lists * kept), mine.ids().toInts(lists * kept));
          assertArrayEquals(
              expected.values().toFloats(lists * kept), mine.values().toFloats(lists * kept));
          if (sign != Sign.ABSOLUTE) {
            assertArrayEquals(expected.logSumExp(m), mine.logSumExp(m), 1e-4f);
          }
        }
      }
    }
  }

  /** Multiples of 1/256 below 1/32. */
  private static float[] small(int n, long seed) {
    SplittableRandom random = new SplittableRandom(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (random.nextInt(15) - 7) / 256f;
    }
    return values;
  }

  @Test
  void refusesFormsThatTheCardHasNot() {
    if (TestCuda.REAL) {
      return;
    }
    for (String name : List.of("sm80", "sm90", "tensor")) {
      System.setProperty(CudaDevice.MULTIPLY_TOP, name);
      try {
        var error = assertThrows(DeviceException.class, StandIn::open);
        assertTrue(error.getMessage().contains("cublas"), error.getMessage());
        assertEquals("", StandIn.report());
      } finally {
        System.clearProperty(CudaDevice.MULTIPLY_TOP);
        StandIn.reset();
      }
    }
  }

  private static Buffer bf16(Device device, float[] values) {
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    Buffer buffer = device.allocate(2L * bits.length);
    buffer.copyFrom(MemorySegment.ofArray(bits));
    return buffer;
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
