package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.model.RowKernels.SteeredAt;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code add_rmsnorm_*} beside the two that they stand for. */
class AddRmsNormTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final Site BRANCH = new Site(Site.Kind.MLP_OUT, 2);
  private static final Site RESIDUAL = new Site(Site.Kind.RESID_POST, 2);
  private static final Site NEXT = new Site(Site.Kind.RESID_PRE, 3);

  /** Rows without edits, with edits of one site each, and with edits of all. */
  private static final int[] SLOTS = {0, 1, 2, 3, 4, 5};

  private record Result(float[] out, float[] x, float[] y, float[] changes) {
    float[] all() {
      return AttentionRun.concatenate(out, x, y, changes);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void hasTheBitsOfBothKernels(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int d : new int[] {1, 33, 255, 264, 1023, 4096, 4100, 8200}) {
        float[] bias = Values.random(DType.F32, d, 3);
        try (SteeringTable table = table(device, d)) {
          assertSame(device, type, d, null, null);
          assertSame(device, type, d, null, table);
          assertSame(device, type, d, bias, null);
          assertSame(device, type, d, bias, table);
        }
      }
    }
  }

  private static void assertSame(
      Device device, DType type, int d, float[] bias, SteeringTable table) {
    Result apart = run(device, type, d, bias, table, false);
    Result fused = run(device, type, d, bias, table, true);
    assertArrayEquals(apart.all(), fused.all());
    RowKernels ofMany = new RowKernels(device, type, 1);
    assertArrayEquals(apart.all(), run(device, ofMany, type, d, bias, table, true).all());
    if (table == null) {
      return;
    }
    // Each slot's edits show, and a row without any has the bits that it has without a table.
    Result plain = run(device, type, d, bias, null, true);
    for (int row = 0; row < SLOTS.length; row++) {
      float squares = 0;
      for (int i = 0; i < table.reportStride(); i++) {
        squares += fused.changes[row * table.reportStride() + i];
      }
      if (row == 0) {
        assertEquals(0, squares);
      } else {
        assertNotEquals(0, squares);
      }
    }
    for (int i = 0; i < d; i++) {
      assertEquals(plain.out[i], fused.out[i]);
      assertEquals(plain.x[i], fused.x[i]);
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    for (int d : new int[] {257, 264}) {
      float[] bias = Values.random(DType.F32, d, 3);
      TestDevices.assertSchedulesAgree(
          device -> {
            try (SteeringTable table = table(device, d)) {
              return AttentionRun.concatenate(
                  run(device, DType.BF16, d, null, table, true).all(),
                  run(device, DType.F32, d, bias, table, true).all());
            }
          });
    }
  }

  private static SteeringTable table(Device device, int d) {
    float[] v = Values.random(DType.F32, d, 4);
    float[] u = new float[d];
    u[d / 2] = 1;
    Edit branch = new Edit.Project(BRANCH, u, 5, 5);
    Edit residual = new Edit.Add(RESIDUAL, v, 0.5f);
    Edit next = new Edit.Project(NEXT, u, -7, -6);
    return new SteeringTable(
        device,
        List.of(
            List.of(branch),
            List.of(residual),
            List.of(next),
            List.of(next, residual, branch),
            List.of(residual, new Edit.Add(RESIDUAL, u, 3))),
        1);
  }

  private static Result run(
      Device device, DType type, int d, float[] bias, SteeringTable table, boolean fused) {
    return run(device, new RowKernels(device, type), type, d, bias, table, fused);
  }

  private static Result run(
      Device device,
      RowKernels kernels,
      DType type,
      int d,
      float[] bias,
      SteeringTable table,
      boolean fused) {
    int rows = SLOTS.length;
    int stride = table == null ? 1 : table.reportStride();
    float[] xs = Values.random(DType.F32, rows * d, 1);
    float[] ys = Values.random(type, rows * d, 2);
    try (Buffer out = device.allocate((long) rows * d * type.bytes());
        Buffer x = Values.buffer(device, DType.F32, xs);
        Buffer y = Values.buffer(device, type, ys);
        Buffer b = bias == null ? null : Values.buffer(device, DType.F32, bias);
        Buffer gain = Values.buffer(device, DType.F32, Values.random(DType.F32, d, 5));
        Buffer slots = Values.buffer(device, SLOTS);
        Buffer changes = device.allocate(4L * rows * stride)) {
      changes.clear();
      Edits edits = new Edits(table, slots, changes);
      SteeredAt branch = new SteeredAt(BRANCH.kind(), BRANCH.layer());
      SteeredAt residual = new SteeredAt(RESIDUAL.kind(), RESIDUAL.layer());
      RowKernels.Norm norm =
          new RowKernels.Norm(gain, 1e-5f, new SteeredAt(NEXT.kind(), NEXT.layer()));
      if (fused) {
        kernels.addAndNorm(x, y, b, rows, d, edits, branch, residual, norm, out);
      } else {
        kernels.add(x, y, b, rows, d, edits, branch, residual);
        kernels.norm(norm, out, x, rows, d, null, edits);
      }
      return new Result(
          Values.read(out, type, rows * d),
          x.toFloats(rows * d),
          Values.read(y, type, rows * d),
          changes.toFloats(rows * stride));
    }
  }
}
