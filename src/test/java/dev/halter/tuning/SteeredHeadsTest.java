package dev.halter.tuning;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.model.Head;
import dev.halter.model.Values;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Vectors of heads and their gradients against double arithmetic. */
class SteeredHeadsTest {
  private static final ModelConfig CONFIG =
      ModelConfig.read(Path.of("src/test/resources/goldens/llama3/model")); // 6 heads of 8

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void actAndHaveGradients(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      actAndHaveGradients(device, type);
    }
  }

  private static void actAndHaveGradients(Device device, DType type) {
    int width = CONFIG.nHeads() * CONFIG.dHead();
    int d = CONFIG.dHead();
    List<Head> heads = List.of(new Head(1, 4), new Head(1, 0), new Head(2, 5));
    for (HeadVector kind : HeadVector.values()) {
      Selection selection = new Selection(CONFIG, heads, kind);
      HeadVectors vectors = selection.vectors(1).orElseThrow();
      assertEquals(List.of(new Head(1, 0), new Head(1, 4)), vectors.heads());
      for (int rows : new int[] {1, 127, 128, 129, 300}) {
        float[] z = Values.random(type, rows * width, rows);
        float[] dz = Values.random(type, rows * width, rows + 1);
        float[] values = Values.random(DType.F32, 2 * d, rows + 2);
        try (Scope scope = device.scope()) {
          SteeredHeads steered = new SteeredHeads(scope, selection, type, width, rows);
          Buffer changed = scope.add(Values.buffer(device, type, z));
          steered.apply(0, changed, rows); // a layer without vectors
          steered.apply(1, changed, rows);
          assertSame(z, Values.read(changed, type, z.length), values, kind, type, false);
          steered.values(vectors).set(values);
          Buffer of = scope.add(Values.buffer(device, type, z));
          steered.apply(1, of, rows);
          assertSame(z, Values.read(of, type, z.length), values, kind, type, true);

          Buffer gradient = scope.allocate(4L * 2 * d);
          Buffer slope = scope.add(Values.buffer(device, type, dz));
          Buffer before = scope.add(Values.buffer(device, type, z));
          steered.backward(vectors, gradient, slope, before, rows);
          float[] sums = gradient.toFloats(2 * d);
          for (int i = 0; i < sums.length; i++) {
            double sum = 0;
            double size = 0;
            for (int row = 0; row < rows; row++) {
              int at = row * width + vectors.heads().get(i / d).head() * d + i % d;
              double each = dz[at] * (kind == HeadVector.SCALE ? z[at] : 1.0);
              sum += each;
              size += Math.abs(each);
            }
            assertEquals(sum, sums[i], 1e-6 * size, kind + " of " + rows + " rows");
          }
          boolean scales = kind == HeadVector.SCALE;
          assertSame(dz, Values.read(slope, type, dz.length), values, kind, type, scales);
        }
      }
    }
  }

  /** That {@code actual} is {@code was}, with the listed heads changed or not. */
  private static void assertSame(
      float[] was, float[] actual, float[] values, HeadVector kind, DType type, boolean changed) {
    double rounding = type == DType.F32 ? 1e-6 : 0x1p-8;
    int d = CONFIG.dHead();
    int width = CONFIG.nHeads() * d;
    for (int i = 0; i < was.length; i++) {
      int head = i % width / d;
      int place = head == 0 ? 0 : head == 4 ? 1 : -1;
      double expected = was[i];
      if (changed && place >= 0) {
        float value = values[place * d + i % d];
        expected = kind == HeadVector.SCALE ? (1.0 + value) * was[i] : (double) was[i] + value;
      }
      assertEquals(expected, actual[i], rounding * Math.max(1, Math.abs(expected)));
    }
  }
}
