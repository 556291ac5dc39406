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

/** Kernels {@code residual_add_*}, and with them the edits of whole rows in steer.cuh. */
class ResidualAddTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final Site BRANCH = new Site(Site.Kind.MLP_OUT, 2);
  private static final Site RESIDUAL = new Site(Site.Kind.RESID_POST, 2);

  private static final RowKernels.SteeredAt BRANCH_AT =
      new RowKernels.SteeredAt(BRANCH.kind(), BRANCH.layer());
  private static final RowKernels.SteeredAt RESIDUAL_AT =
      new RowKernels.SteeredAt(RESIDUAL.kind(), RESIDUAL.layer());

  /** Odd ones, and multiples of a pack up to what a block keeps in registers, and above that. */
  private static final int[] SIZES =
      IntStream.concat(Arrays.stream(Values.SIZES), IntStream.of(8, 264, 4096, 4100)).toArray();

  /** A row under no edit, and one under each of the two slots. */
  private static final int[] SLOTS = {0, 1, 2};

  private record Sum(float[] x, float[] y, float[] changes) {}

  @ParameterizedTest
  @MethodSource(DEVICES)
  void addsBranchAndBias(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int d : SIZES) {
        float[] x = Values.random(DType.F32, 3 * d, 1);
        float[] y = Values.random(type, 3 * d, 2);
        float[] bias = Values.random(DType.F32, d, 3);
        Sum without = add(device, type, x, y, null, d, null);
        Sum with = add(device, type, x, y, bias, d, null);
        assertArrayEquals(y, without.y);
        for (int i = 0; i < x.length; i++) {
          assertEquals(x[i] + y[i], without.x[i]);
          float branch = Values.narrow(type, y[i] + bias[i % d]);
          assertEquals(branch, with.y[i]);
          assertEquals(x[i] + branch, with.x[i]);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void editsBranchThenResidualInTheirOrderAndReportsTheChange(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int d : SIZES) {
        checkEdits(device, type, d);
      }
    }
  }

  private static void checkEdits(Device device, DType type, int d) {
    float[] x = Values.random(DType.F32, 3 * d, 1);
    float[] y = Values.random(type, 3 * d, 2);
    float[] v = Values.random(DType.F32, d, 4);
    float[] u = unit(Values.random(DType.F32, d, 5));
    float[] w = unit(Values.random(DType.F32, d, 6));
    List<Edit> first =
        List.of(
            new Edit.Add(RESIDUAL, v, 0.5f),
            new Edit.Project(BRANCH, u, 0, 0),
            new Edit.Project(RESIDUAL, w, 5, 6));
    List<Edit> second = List.of(new Edit.Project(RESIDUAL, w, -1000, 1000));
    try (SteeringTable table = new SteeringTable(device, List.of(first, second), 1)) {
      Sum plain = add(device, type, x, y, null, d, null);
      Sum sum = add(device, type, x, y, null, d, table);
      int stride = table.reportStride();
      double tolerance = type == DType.F32 ? 2e-5 : 0.02;

      // Row 0 has no slot and row 2 a clamp that nothing exceeds: not a bit may change.
      for (int i = 0; i < d; i++) {
        assertEquals(plain.x[i], sum.x[i]);
        assertEquals(plain.x[2 * d + i], sum.x[2 * d + i]);
        assertEquals(plain.y[2 * d + i], sum.y[2 * d + i]);
      }
      assertEquals(0, sum.changes[2 * stride]);

      double[] branch = row(y, d, 1);
      double branchStep = -dot(branch, u);
      move(branch, u, branchStep);
      double[] residual = row(x, d, 1);
      double added = 0;
      for (int i = 0; i < d; i++) {
        residual[i] += branch[i] + 0.5 * v[i];
        added += 0.25 * v[i] * v[i];
      }
      double p = dot(residual, w);
      double step = Math.clamp(p, 5, 6) - p;
      move(residual, w, step);
      assertTrue(step != 0);
      for (int i = 0; i < d; i++) {
        assertEquals(branch[i], sum.y[d + i], tolerance);
        assertEquals(residual[i], sum.x[d + i], tolerance);
      }
      double[] expected = {added, branchStep * branchStep, step * step};
      for (int i = 0; i < 3; i++) {
        double reported = sum.changes[stride + table.places(1).get(i).at()];
        assertEquals(Math.sqrt(expected[i]), Math.sqrt(reported), 2 * tolerance);
      }
    }
  }

  /** Rows that need not go through memory. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void vectorsAloneAreAddedAndEachReported(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int d : SIZES) {
        float[] x = Values.random(DType.F32, 3 * d, 1);
        float[] y = Values.random(type, 3 * d, 2);
        float[] v = Values.random(DType.F32, d, 4);
        float[] w = Values.random(DType.F32, d, 5);
        List<Edit> one = List.of(new Edit.Add(RESIDUAL, v, 0.5f));
        List<Edit> two = List.of(new Edit.Add(RESIDUAL, v, -2), new Edit.Add(RESIDUAL, w, 3));
        try (SteeringTable table = new SteeringTable(device, List.of(one, two), 1)) {
          Sum plain = add(device, type, x, y, null, d, null);
          Sum sum = add(device, type, x, y, null, d, table);
          double[] squares = new double[2];
          for (int i = 0; i < d; i++) {
            assertEquals(plain.x[i], sum.x[i]);
            assertEquals(plain.x[d + i] + 0.5 * v[i], sum.x[d + i], 2e-6);
            assertEquals(plain.x[2 * d + i] - 2.0 * v[i] + 3.0 * w[i], sum.x[2 * d + i], 4e-6);
            squares[0] += 4.0 * v[i] * v[i];
            squares[1] += 9.0 * w[i] * w[i];
          }
          assertArrayEquals(y, sum.y);
          int stride = table.reportStride();
          assertEquals(0, sum.changes[0]);
          assertEquals(squares[0] / 16, sum.changes[stride], 1e-5 * squares[0]);
          for (int i = 0; i < 2; i++) {
            assertEquals(squares[i], sum.changes[2 * stride + i], 1e-5 * squares[i]);
          }
        }
      }
    }
  }

  /** Adding nothing is no edit: only the sign of a zero could show it. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void addingAVectorTimesZeroLeavesEveryBit(Device device) {
    int d = 255;
    float[] x = Values.random(DType.F32, 3 * d, 1);
    float[] y = Values.random(DType.BF16, 3 * d, 2);
    Edit none = new Edit.Add(RESIDUAL, Values.random(DType.F32, d, 3), 0);
    try (SteeringTable table = new SteeringTable(device, List.of(List.of(none), List.of()), 1)) {
      Sum sum = add(device, DType.BF16, x, y, null, d, table);
      assertArrayEquals(add(device, DType.BF16, x, y, null, d, null).x, sum.x);
      assertEquals(0, sum.changes[table.reportStride()]);
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    int d = 257;
    float[] x = Values.random(DType.F32, 3 * d, 1);
    float[] y = Values.random(DType.BF16, 3 * d, 2);
    float[] u = unit(Values.random(DType.F32, d, 5));
    List<Edit> edits =
        List.of(new Edit.Project(BRANCH, u, 0, 0), new Edit.Project(RESIDUAL, u, 0, 1));
    TestDevices.assertSchedulesAgree(
        device -> {
          try (SteeringTable table = new SteeringTable(device, List.of(edits, edits), 1)) {
            Sum sum = add(device, DType.BF16, x, y, null, d, table);
            return AttentionRun.concatenate(sum.x, sum.y, sum.changes);
          }
        });
  }

  private static Sum add(
      Device device, DType type, float[] xs, float[] ys, float[] bias, int d, SteeringTable table) {
    int rows = SLOTS.length;
    int stride = table == null ? 1 : table.reportStride();
    try (Buffer x = Values.buffer(device, DType.F32, xs);
        Buffer y = Values.buffer(device, type, ys);
        Buffer b = bias == null ? null : Values.buffer(device, DType.F32, bias);
        Buffer slots = Values.buffer(device, SLOTS);
        Buffer changes = device.allocate(4L * rows * stride)) {
      changes.clear();
      new RowKernels(device, type)
          .add(x, y, b, rows, d, new Edits(table, slots, changes), BRANCH_AT, RESIDUAL_AT);
      return new Sum(
          x.toFloats(xs.length), Values.read(y, type, ys.length), changes.toFloats(rows * stride));
    }
  }

  private static float[] unit(float[] v) {
    double squares = 0;
    for (float value : v) {
      squares += (double) value * value;
    }
    float[] unit = new float[v.length];
    for (int i = 0; i < v.length; i++) {
      unit[i] = (float) (v[i] / Math.sqrt(squares));
    }
    return unit;
  }

  private static double[] row(float[] values, int d, int row) {
    double[] copy = new double[d];
    for (int i = 0; i < d; i++) {
      copy[i] = values[row * d + i];
    }
    return copy;
  }

  private static double dot(double[] x, float[] u) {
    double dot = 0;
    for (int i = 0; i < u.length; i++) {
      dot += x[i] * u[i];
    }
    return dot;
  }

  private static void move(double[] x, float[] u, double step) {
    for (int i = 0; i < u.length; i++) {
      x[i] += step * u[i];
    }
  }
}
