package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernel {@code steer_rows}. */
class SteerRowsTest {
  private static final Site SITE = new Site(Site.Kind.RESID_MID, 0);
  private static final int[] SLOTS = {0, 2, 1, 2, 0};

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void editsRowsInTheOrderOfTheirSlotAndLeavesTheOthers(Device device) {
    for (int d : Values.SIZES) {
      float[] before = Values.random(DType.F32, SLOTS.length * d, d);
      float[] v = Values.random(DType.F32, d, 7);
      float[] after = run(device, d);
      for (int row = 0; row < SLOTS.length; row++) {
        double[] x = new double[d];
        for (int i = 0; i < d; i++) {
          x[i] = before[row * d + i];
        }
        double changed = 0;
        if (SLOTS[row] > 0) {
          for (int i = 0; i < d; i++) {
            x[i] += 0.5 * v[i];
            changed += 0.25 * v[i] * v[i];
          }
        }
        double clamped = 0;
        if (SLOTS[row] == 2) {
          clamped = Math.pow(3 - x[d / 2], 2);
          x[d / 2] = 3;
        }
        for (int i = 0; i < d; i++) {
          assertEquals(x[i], after[row * d + i], SLOTS[row] == 0 ? 0 : 1e-5);
        }
        int report = SLOTS.length * d + 2 * row;
        assertEquals(changed, after[report], 1e-4 * (1 + changed));
        assertEquals(clamped, after[report + 1], 1e-4 * (1 + clamped));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void aStrengthIsTheShareOfTheChange(Device device) {
    int d = 257;
    float[] unit = Edit.unit(Values.random(DType.F32, d, 9));
    float[] before = Values.random(DType.F32, d, d);
    double dot = 0;
    for (int i = 0; i < d; i++) {
      dot += (double) before[i] * unit[i];
    }
    for (double strength : new double[] {0, 0.25, 1, -2}) {
      for (Edit edit :
          new Edit[] {new Edit.Ablate(SITE, unit), new Edit.Project(SITE, unit, 3, 4)}) {
        double target = edit instanceof Edit.Ablate ? 0 : Math.clamp(dot, 3, 4);
        double step = strength * (target - dot);
        float[] after = run(device, before, edit.scaled(strength));
        for (int i = 0; i < d; i++) {
          assertEquals(before[i] + step * unit[i], after[i], strength == 0 ? 0 : 1e-5);
        }
        assertEquals(step * step, after[d], 1e-4 * (1 + step * step));
      }
    }
  }

  /** A row after an edit, then what it reports. */
  private static float[] run(Device device, float[] row, Edit edit) {
    int d = row.length;
    try (SteeringTable table = new SteeringTable(device, List.of(List.of(edit)), 1);
        Buffer x = Values.buffer(device, DType.F32, row);
        Buffer slots = Values.buffer(device, new int[] {1});
        Buffer changes = device.allocate(4)) {
      new RowEdits(device, table.ranges(SITE.kind(), SITE.layer()), table.ops())
          .enqueue(new QueuedEdit.Rows(x, 1, d, slots, slots, changes, 1, false));
      return AttentionRun.concatenate(x.toFloats(d), changes.toFloats(1));
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    TestDevices.assertSchedulesAgree(device -> run(device, 257));
  }

  /** The rows after the edits, then the report. */
  private static float[] run(Device device, int d) {
    float[] u = new float[d];
    u[d / 2] = 1;
    Edit add = new Edit.Add(SITE, Values.random(DType.F32, d, 7), 0.5f);
    Edit project = new Edit.Project(SITE, u, 3, 3);
    int rows = SLOTS.length;
    try (SteeringTable table =
            new SteeringTable(device, List.of(List.of(add), List.of(add, project)), 1);
        Buffer x = Values.buffer(device, DType.F32, Values.random(DType.F32, rows * d, d));
        Buffer slots = Values.buffer(device, SLOTS);
        Buffer changes = device.allocate(8L * rows)) {
      changes.clear();
      new RowEdits(device, table.ranges(SITE.kind(), SITE.layer()), table.ops())
          .enqueue(new QueuedEdit.Rows(x, rows, d, slots, slots, changes, 2, false));
      return AttentionRun.concatenate(x.toFloats(rows * d), changes.toFloats(2 * rows));
    }
  }
}
