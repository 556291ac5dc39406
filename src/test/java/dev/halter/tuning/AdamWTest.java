package dev.halter.tuning;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import dev.halter.model.Values;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** AdamW on a slice of a matrix against double arithmetic. */
class AdamWTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int ROWS = 3;

  @ParameterizedTest
  @MethodSource(DEVICES)
  void movesTheSliceAndNothingBesideIt(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int columns : new int[] {1, 31, 33, 257}) {
        int stride = columns + 5;
        float[] matrix = Values.random(type, ROWS * stride, columns);
        try (Scope scope = device.scope()) {
          Buffer all = scope.add(Values.buffer(device, type, matrix));
          Buffer gradient = scope.allocate(4L * ROWS * columns);
          AdamW slice =
              new AdamW(
                  scope, new Matrix(all, type, stride).columnsFrom(2), ROWS, columns, gradient);
          double[] master = new double[ROWS * columns];
          double[] first = new double[master.length];
          double[] second = new double[master.length];
          for (int i = 0; i < master.length; i++) {
            master[i] = matrix[i / columns * stride + 2 + i % columns];
          }
          for (int step = 1; step <= 3; step++) {
            float[] slopes = Values.random(DType.F32, master.length, step);
            gradient.set(slopes);
            double squares = 0;
            for (int i = 0; i < master.length; i++) {
              double g = 0.5 * slopes[i];
              squares += (double) slopes[i] * slopes[i];
              first[i] = 0.9 * first[i] + 0.1 * g;
              second[i] = 0.999 * second[i] + 0.001 * g * g;
              double m = first[i] / (1 - Math.pow(0.9, step));
              double v = second[i] / (1 - Math.pow(0.999, step));
              master[i] = master[i] * (1 - 0.01 * 0.1) - 0.01 * m / (Math.sqrt(v) + 1e-8);
            }
            assertEquals(squares, slice.squares(), 1e-5 * squares);
            slice.step(new Struct<>(AdamStep.of(step, 0.01, 0.1, 0.5)));
          }
          float[] moved = slice.values();
          float[] after = Values.read(all, type, matrix.length);
          for (int i = 0; i < matrix.length; i++) {
            int column = i % stride - 2;
            if (column < 0 || column >= columns) {
              assertEquals(matrix[i], after[i], "beside the slice");
            } else {
              int at = i / stride * columns + column;
              assertEquals(master[at], moved[at], 2e-6);
              assertEquals(Values.narrow(type, moved[at]), after[i]);
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void withoutALearningRateEveryBitStays(Device device) {
    float[] values = {-0.0f, 0.0f, 1.5f, -2};
    try (Scope scope = device.scope()) {
      Buffer weight = scope.of(values);
      Buffer gradient = scope.of(1f, -1, 0, 3);
      AdamW slice = new AdamW(scope, new Matrix(weight, DType.F32, 4), 1, 4, gradient);
      slice.step(new Struct<>(AdamStep.of(1, 0, 0.1, 1)));
      assertArrayEquals(values, weight.toFloats(4)); // by their bits
      assertArrayEquals(values, slice.values());
    }
  }

  /** transformers 5.18: get_scheduler with 3 steps of warm-up of 10. */
  @Test
  void schedulesAreTransformers() {
    double[] linear = {
      0, 1 / 3.0, 2 / 3.0, 1, 6 / 7.0, 5 / 7.0, 4 / 7.0, 3 / 7.0, 2 / 7.0, 1 / 7.0
    };
    for (int step = 0; step < 10; step++) {
      assertEquals(linear[step], RateSchedule.LINEAR.factor(step, 3, 10), 1e-15);
      assertEquals(step < 3 ? step / 3.0 : 1, RateSchedule.CONSTANT.factor(step, 3, 10), 1e-15);
    }
    assertEquals(1, RateSchedule.COSINE.factor(0, 0, 4));
    assertEquals(0.5, RateSchedule.COSINE.factor(2, 0, 4), 1e-15);
    assertEquals(1, RateSchedule.LINEAR.factor(0, 0, 1));
  }
}
