package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code embed_*} and {@code gather_rows}. */
class EmbedTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int[] TOKENS = {4, 0, 4, 2};

  @ParameterizedTest
  @MethodSource(DEVICES)
  void everyTokenGetsExactlyItsRowOfTheTable(Device device) {
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      for (int d : Values.SIZES) {
        float[] table = Values.random(type, 5 * d, d);
        float[] x = embed(device, type, table, d, null, new int[TOKENS.length]);
        for (int row = 0; row < TOKENS.length; row++) {
          int at = TOKENS[row] * d;
          assertArrayEquals(
              Arrays.copyOfRange(table, at, at + d), Arrays.copyOfRange(x, row * d, (row + 1) * d));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void steeringEditsOnlyRowsOfItsSlot(Device device) {
    int d = 33;
    float[] table = Values.random(DType.F32, 5 * d, 1);
    float[] vector = Values.random(DType.F32, d, 2);
    Site site = new Site(Site.Kind.EMBED, -1);
    try (SteeringTable steering =
        new SteeringTable(device, List.of(List.of(new Edit.Add(site, vector, 2))), 1)) {
      float[] x = embed(device, DType.F32, table, d, steering, new int[] {0, 1, 0, 0});
      float[] plain = embed(device, DType.F32, table, d, null, new int[TOKENS.length]);
      assertNotEquals(plain[d], x[d]);
      for (int i = 0; i < plain.length; i++) {
        float expected = i / d == 1 ? plain[i] + 2 * vector[i - d] : plain[i];
        assertEquals(expected, x[i], i / d == 1 ? 1e-6 : 0);
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    float[] table = Values.random(DType.BF16, 5 * 257, 1);
    TestDevices.assertSchedulesAgree(
        device -> embed(device, DType.BF16, table, 257, null, new int[TOKENS.length]));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void gathersRowsInAnyOrder(Device device) {
    int[] rows = {2, 0, 2, 1};
    for (int d : Values.SIZES) {
      float[] x = Values.random(DType.F32, 3 * d, d);
      try (Buffer from = Values.buffer(device, DType.F32, x);
          Buffer index = Values.buffer(device, rows);
          Buffer out = device.allocate(4L * rows.length * d)) {
        device.launch(
            device.kernel("gather_rows"), Grid.of(rows.length), 64, 0, out, from, index, d);
        float[] gathered = out.toFloats(rows.length * d);
        for (int i = 0; i < gathered.length; i++) {
          assertEquals(x[rows[i / d] * d + i % d], gathered[i]);
        }
      }
    }
  }

  private static float[] embed(
      Device device, DType type, float[] table, int d, SteeringTable steering, int[] slots) {
    int rows = TOKENS.length;
    try (Buffer x = device.allocate(4L * rows * d);
        Buffer weights = Values.buffer(device, type, table);
        Buffer tokens = Values.buffer(device, TOKENS);
        Buffer slot = Values.buffer(device, slots);
        Buffer changes = device.allocate(4L * rows)) {
      Edits edits = new Edits(steering, slot, changes);
      device.launch(
          device.kernel("embed_" + type.name().toLowerCase(Locale.ROOT)),
          Grid.of(rows),
          256,
          0,
          x,
          weights,
          tokens,
          d,
          edits.ranges(Site.Kind.EMBED, -1),
          edits.steering());
      return x.toFloats(rows * d);
    }
  }
}
