package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.TestDevices;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code gated_mlp_*}: gate left, up right in one buffer, as the model lays them. */
class GatedMlpTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int ROWS = 2;
  private static final Site PRE = new Site(Site.Kind.PRE, 0);
  private static final Site PRE_LINEAR = new Site(Site.Kind.PRE_LINEAR, 0);
  private static final Site POST = new Site(Site.Kind.POST, 0);

  /** Odd ones, and multiples of a pack that end within a chunk, with one and in the next one. */
  private static final int[] SIZES =
      IntStream.concat(Arrays.stream(Values.SIZES), IntStream.of(8, 1016, 1024, 2056)).toArray();

  private record Sites(float[] gateUp, float[] post, float[] changes) {
    float[] all() {
      return AttentionRun.concatenate(gateUp, post, changes);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmeticWithAndWithoutBiases(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int f : SIZES) {
        float[] gateUp = Values.random(type, ROWS * 2 * f, f);
        float[] gateBias = Values.random(DType.F32, f, 1);
        float[] upBias = Values.random(DType.F32, f, 2);
        Sites plain = run(device, type, gateUp, f, null, null, null);
        assertArrayEquals(gateUp, plain.gateUp);
        check(type, f, gateUp, null, null, plain);
        check(
            type,
            f,
            gateUp,
            gateBias,
            upBias,
            run(device, type, gateUp, f, gateBias, upBias, null));
        check(type, f, gateUp, null, upBias, run(device, type, gateUp, f, null, upBias, null));
      }
    }
  }

  private static void check(
      DType type, int f, float[] gateUp, float[] gateBias, float[] upBias, Sites sites) {
    double tolerance = type == DType.F32 ? 1e-6 : 0.004;
    for (int row = 0; row < ROWS; row++) {
      for (int i = 0; i < f; i++) {
        int g = row * 2 * f + i;
        int u = g + f;
        float gate = gateUp[g] + (gateBias == null ? 0 : gateBias[i]);
        float up = gateUp[u] + (upBias == null ? 0 : upBias[i]);
        assertEquals(Values.narrow(type, gate), sites.gateUp[g]);
        assertEquals(Values.narrow(type, up), sites.gateUp[u]);
        double expected = silu(sites.gateUp[g]) * sites.gateUp[u];
        assertEquals(
            expected, sites.post[row * f + i], tolerance * Math.max(1, Math.abs(expected)));
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void clampsGateThenUpThenProductWhateverTheOrderGiven(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int f : new int[] {33, 257, 1023, 2056}) { // the last have several chunks
        // Neuron 0 gets all three, 1 only the gate, f - 1 only the product.
        List<Edit> edits =
            List.of(
                new Edit.Neurons(POST, new int[] {f - 1, 0}, 2, -1000, 1000),
                new Edit.Neurons(PRE_LINEAR, new int[] {0}, 0, 3, 3),
                new Edit.Neurons(PRE, new int[] {1, 0}, 1, 0.5f, 0.75f));
        float[] gateUp = Values.random(type, ROWS * 2 * f, f);
        try (SteeringTable table = new SteeringTable(device, List.of(edits), 1)) {
          Sites plain = run(device, type, gateUp, f, null, null, null);
          Sites sites = run(device, type, gateUp, f, null, null, table);
          double tolerance = type == DType.F32 ? 1e-5 : 0.02;
          int row = 2 * f; // of gateUp; row 1 is the steered one
          double gate0 = Math.clamp(gateUp[row], 0.5, 0.75);
          double gate1 = Math.clamp(gateUp[row + 1], 0.5, 0.75);
          double up1 = gateUp[row + f + 1];
          double last = silu(gateUp[row + f - 1]) * gateUp[row + 2 * f - 1];
          assertEquals(gate0, sites.gateUp[row], tolerance);
          assertEquals(3, sites.gateUp[row + f]);
          assertEquals(2 * silu(gate0) * 3, sites.post[f], 2 * tolerance);
          assertEquals(silu(gate1) * up1, sites.post[f + 1], tolerance);
          assertEquals(2 * last, sites.post[2 * f - 1], tolerance);
          assertNotEquals(plain.post[f], sites.post[f]);

          double[] norms = {
            Math.hypot(silu(gate0) * 3, last),
            Math.abs(3 - gateUp[row + f]),
            Math.hypot(gate0 - gateUp[row], gate1 - gateUp[row + 1])
          };
          for (int i = 0; i < 3; i++) {
            float squares = sites.changes[table.reportStride() + table.places(1).get(i).at()];
            assertEquals(norms[i], Math.sqrt(squares), 2 * tolerance);
          }
          // All else is as without steering, row 0 in whole.
          for (int i = 0; i < plain.post.length; i++) {
            if (i != f && i != f + 1 && i != 2 * f - 1) {
              assertEquals(plain.post[i], sites.post[i]);
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aStrengthIsTheShareOfTheWay(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      int f = 257;
      float[] gateUp = Values.random(type, ROWS * 2 * f, f);
      double tolerance = type == DType.F32 ? 1e-5 : 0.05;
      for (double strength : new double[] {0, 0.5, 1, -1}) {
        List<Edit> edits =
            List.of(
                new Edit.Neurons(PRE, new int[] {1}, 1, 0.5f, 0.75f).scaled(strength),
                new Edit.Neurons(PRE_LINEAR, new int[] {0}, 0, 3, 3).scaled(strength),
                new Edit.Neurons(POST, new int[] {2}, 4, -1000, 1000).scaled(strength));
        try (SteeringTable table = new SteeringTable(device, List.of(edits), 1)) {
          Sites plain = run(device, type, gateUp, f, null, null, null);
          Sites sites = run(device, type, gateUp, f, null, null, table);
          int row = 2 * f; // of gateUp; row 1 is the steered one
          double gate = gateUp[row + 1];
          double up = gateUp[row + f];
          double post = plain.post[f + 2];
          double[] steps = {
            strength * (Math.clamp(gate, 0.5, 0.75) - gate),
            strength * (3 - up),
            strength * (4 * post - post)
          };
          double exact = strength == 0 ? 0 : tolerance;
          assertEquals(gate + steps[0], sites.gateUp[row + 1], exact);
          assertEquals(up + steps[1], sites.gateUp[row + f], exact);
          assertEquals(post + steps[2], sites.post[f + 2], exact);
          for (int i = 0; i < 3; i++) {
            float squares = sites.changes[table.reportStride() + table.places(1).get(i).at()];
            assertEquals(Math.abs(steps[i]), Math.sqrt(squares), tolerance);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void editsComeAfterTheBiases(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int f : new int[] {257, 2056}) {
        float[] gateUp = Values.random(type, ROWS * 2 * f, f);
        float[] gateBias = Values.random(DType.F32, f, 1);
        float[] upBias = Values.random(DType.F32, f, 2);
        List<Edit> edits =
            List.of(
                new Edit.Neurons(PRE, new int[] {0, f - 1}, 2, -1000, 1000),
                new Edit.Neurons(PRE_LINEAR, new int[] {f / 2}, -1, -1000, 1000));
        try (SteeringTable table = new SteeringTable(device, List.of(edits), 1)) {
          Sites plain = run(device, type, gateUp, f, gateBias, upBias, null);
          Sites sites = run(device, type, gateUp, f, gateBias, upBias, table);
          float[] expected = plain.gateUp.clone();
          int row = 2 * f;
          expected[row] *= 2;
          expected[row + f - 1] *= 2;
          expected[row + f + f / 2] *= -1;
          assertArrayEquals(expected, sites.gateUp);
          check(type, f, sites, Arrays.copyOfRange(plain.gateUp, row, row + f), table);
        }
      }
    }
  }

  /** Checks all products, and the report of the two neurons whose gate was doubled in row 1. */
  private static void check(DType type, int f, Sites sites, float[] gate, SteeringTable table) {
    double tolerance = type == DType.F32 ? 1e-6 : 0.004;
    for (int i = 0; i < ROWS * f; i++) {
      int g = i / f * 2 * f + i % f;
      double expected = silu(sites.gateUp[g]) * sites.gateUp[g + f];
      assertEquals(expected, sites.post[i], tolerance * Math.max(1, Math.abs(expected)));
    }
    double squares = sites.changes[table.reportStride() + table.places(1).get(0).at()];
    assertEquals(Math.hypot(gate[0], gate[f - 1]), Math.sqrt(squares), 1e-5);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void neitherChunksNorTheBlockShowInTheResult(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      Kernel kernel = device.kernel("gated_mlp_" + type.name().toLowerCase(Locale.ROOT));
      for (int f : new int[] {1, 255, 264, 1024}) {
        float[] values = Values.random(type, ROWS * 2 * f, f);
        float[] expected = run(device, type, values, f, null, null, null).post;
        for (int chunks : new int[] {1, 2, 7, 65}) {
          try (Buffer gateUp = Values.buffer(device, type, values);
              Buffer post = device.allocate((long) ROWS * f * type.bytes())) {
            Buffer up = gateUp.slice((long) f * type.bytes());
            device.launch(
                kernel, Grid.of(ROWS, chunks), 64, 0, post, gateUp, up, null, null, f, 2L * f);
            assertArrayEquals(expected, Values.read(post, type, ROWS * f));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatIsNoNumberStaysThatAndKeepsToItself(Device device) {
    int f = 264;
    float[] gateUp = Values.random(DType.BF16, ROWS * 2 * f, f);
    float[] plain = run(device, DType.BF16, gateUp, f, null, null, null).post;
    gateUp[9] = Float.NaN;
    gateUp[f + 17] = Float.NaN;
    float[] damaged = run(device, DType.BF16, gateUp, f, null, null, null).post;
    for (int i = 0; i < plain.length; i++) {
      if (i == 9 || i == 17) {
        assertEquals(Float.NaN, damaged[i]);
      } else {
        assertEquals(plain[i], damaged[i]);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void scalingByOneLeavesEveryBit(Device device) {
    int f = 33;
    float[] gateUp = Values.random(DType.BF16, ROWS * 2 * f, f);
    float infinity = Float.POSITIVE_INFINITY;
    Edit one = new Edit.Neurons(PRE, new int[] {0, 7, 32}, 1, -infinity, infinity);
    try (SteeringTable table = new SteeringTable(device, List.of(List.of(one)), 1)) {
      assertArrayEquals(
          run(device, DType.BF16, gateUp, f, null, null, null).post,
          run(device, DType.BF16, gateUp, f, null, null, table).post);
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    int f = 257;
    float[] gateUp = Values.random(DType.F32, ROWS * 2 * f, f);
    int[] neurons = {3, 200, 64, 256, 0, 100};
    List<Edit> edits =
        List.of(
            new Edit.Neurons(PRE, neurons, 1, -0.5f, 0.5f),
            new Edit.Neurons(PRE_LINEAR, neurons, 0, 2, 2),
            new Edit.Neurons(POST, neurons, 1, -0.3f, 0.3f));
    TestDevices.assertSchedulesAgree(
        device -> {
          try (SteeringTable table = new SteeringTable(device, List.of(edits), 1)) {
            return run(device, DType.F32, gateUp, f, null, null, table).all();
          }
        });
  }

  /** Row 0 unsteered, row 1 in slot 1. */
  private static Sites run(
      Device device,
      DType type,
      float[] values,
      int f,
      float[] gateBias,
      float[] upBias,
      SteeringTable table) {
    int stride = table == null ? 1 : table.reportStride();
    try (Buffer gateUp = Values.buffer(device, type, values);
        Buffer post = device.allocate((long) ROWS * f * type.bytes());
        Buffer gb = gateBias == null ? null : Values.buffer(device, DType.F32, gateBias);
        Buffer ub = upBias == null ? null : Values.buffer(device, DType.F32, upBias);
        Buffer slots = Values.buffer(device, 0, 1);
        Buffer changes = device.allocate(4L * ROWS * stride)) {
      changes.clear();
      new RowKernels(device, type)
          .gatedMlp(
              post,
              gateUp,
              gateUp.slice((long) f * type.bytes()),
              gb,
              ub,
              ROWS,
              f,
              2L * f,
              new Edits(table, slots, changes),
              0);
      return new Sites(
          Values.read(gateUp, type, values.length),
          Values.read(post, type, ROWS * f),
          changes.toFloats(ROWS * stride));
    }
  }

  private static double silu(double x) {
    return x / (1 + Math.exp(-x));
  }
}
