package dev.halter.gradients;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.gradients.BackwardKernels.Heads;
import dev.halter.model.Values;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Gradients row by row against double arithmetic. */
class BackwardKernelsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int[] SIZES = {1, 31, 32, 33, 255, 257, 1023};
  private static final float EPS = 1e-5f;

  @ParameterizedTest
  @MethodSource(DEVICES)
  void crossEntropyIsTheLossAndItsGradient(Device device) {
    int rows = 3;
    for (int vocabulary : SIZES) {
      float[] logits = Values.random(DType.F32, rows * vocabulary, vocabulary);
      for (int i = 0; i < logits.length; i++) {
        logits[i] = 8 * logits[i] + 50; // peaked, and far from 0
      }
      int[] targets = {0, vocabulary - 1, vocabulary / 2};
      float scale = 0.25f;
      try (Scope scope = device.scope()) {
        Buffer losses = scope.allocate(4L * rows);
        Buffer hits = scope.allocate(4L * rows);
        Buffer values = scope.of(logits);
        new BackwardKernels(device, DType.F32)
            .crossEntropy(losses, hits, values, scope.of(targets), rows, vocabulary, scale);
        float[] loss = losses.toFloats(rows);
        float[] gradient = values.toFloats(logits.length);
        for (int row = 0; row < rows; row++) {
          int from = row * vocabulary;
          double sum = 0;
          for (int i = 0; i < vocabulary; i++) {
            sum += Math.exp(logits[from + i] - 50);
          }
          double expected = Math.log(sum) + 50 - logits[from + targets[row]];
          assertEquals(expected, loss[row], 2e-5 * Math.max(1, expected));
          float target = logits[from + targets[row]];
          boolean best =
              IntStream.range(from, from + vocabulary).noneMatch(i -> logits[i] > target);
          assertEquals(best ? 1 : 0, hits.toInts(rows)[row]);
          for (int i = 0; i < vocabulary; i++) {
            double share = Math.exp(logits[from + i] - 50) / sum;
            double slope = scale * (share - (i == targets[row] ? 1 : 0));
            assertEquals(slope, gradient[from + i], 1e-6);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatIsNoNumberMakesALossThatIsNone(Device device) {
    try (Scope scope = device.scope()) {
      Buffer losses = scope.allocate(8);
      Buffer logits = scope.of(1, Float.NaN, 2, 1, 3, 2);
      new BackwardKernels(device, DType.F32)
          .crossEntropy(losses, scope.allocate(8), logits, scope.of(0, 0), 2, 3, 1);
      assertTrue(Float.isNaN(losses.toFloats(2)[0]));
      assertTrue(Float.isFinite(losses.toFloats(2)[1]));
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rmsnormAddsToTheGradientOfItsRows(Device device) {
    int rows = 3;
    for (int d : SIZES) {
      float[] x = Values.random(DType.F32, rows * d, d);
      float[] dy = Values.random(DType.F32, rows * d, d + 1);
      float[] gain = Values.random(DType.F32, d, d + 2);
      float[] before = Values.random(DType.F32, rows * d, d + 3);
      int[] order = {2, 0}; // of rows that have a gradient; row 1 has none
      try (Scope scope = device.scope()) {
        BackwardKernels kernels = new BackwardKernels(device, DType.F32);
        Buffer dx = scope.of(before);
        kernels.rmsnorm(dx, scope.of(x), scope.of(dy), null, scope.of(gain), rows, d, EPS);
        float[] all = dx.toFloats(rows * d);
        dx.set(before);
        kernels.rmsnorm(dx, scope.of(x), scope.of(dy), scope.of(order), scope.of(gain), 2, d, EPS);
        float[] some = dx.toFloats(rows * d);
        for (int row = 0; row < rows; row++) {
          check(normBackward(x, row * d, dy, row * d, gain, d), before, all, row * d);
        }
        check(normBackward(x, 2 * d, dy, 0, gain, d), before, some, 2 * d);
        check(normBackward(x, 0, dy, d, gain, d), before, some, 0);
        assertArrayEquals(Arrays.copyOfRange(before, d, 2 * d), Arrays.copyOfRange(some, d, 2 * d));
      }
    }
  }

  private static void check(double[] added, float[] before, float[] after, int at) {
    for (int i = 0; i < added.length; i++) {
      assertEquals(
          before[at + i] + added[i], after[at + i], 1e-5 * Math.max(1, Math.abs(added[i])));
    }
  }

  private static double[] normBackward(
      float[] x, int xAt, float[] dy, int dyAt, float[] gain, int d) {
    double squares = 0;
    double products = 0;
    for (int i = 0; i < d; i++) {
      squares += (double) x[xAt + i] * x[xAt + i];
      products += (double) gain[i] * dy[dyAt + i] * x[xAt + i];
    }
    double inverse = 1 / Math.sqrt(squares / d + EPS);
    double[] dx = new double[d];
    for (int i = 0; i < d; i++) {
      dx[i] =
          inverse
              * (gain[i] * (double) dy[dyAt + i] - x[xAt + i] * inverse * inverse * products / d);
    }
    return dx;
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void qkNormTakesQueriesAndKeysBackAndLeavesValues(Device device) {
    Heads heads = new Heads(3, 1, 34);
    int rows = 2;
    int width = heads.width();
    float[] raw = Values.random(DType.F32, rows * width, 1);
    float[] gradient = Values.random(DType.F32, rows * width, 2);
    float[] bias = Values.random(DType.F32, width, 3);
    float[] qGain = Values.random(DType.F32, 34, 4);
    float[] kGain = Values.random(DType.F32, 34, 5);
    for (boolean biased : new boolean[] {false, true}) {
      try (Scope scope = device.scope()) {
        Buffer dqkv = scope.of(gradient);
        Buffer b = biased ? scope.of(bias) : null;
        new BackwardKernels(device, DType.F32)
            .qkNorm(dqkv, scope.of(raw), b, scope.of(qGain), scope.of(kGain), EPS, rows, heads);
        float[] actual = dqkv.toFloats(rows * width);
        for (int i = 0; i < rows * width; i += 34) {
          int head = i % width / 34;
          float[] x = Arrays.copyOfRange(raw, i, i + 34);
          for (int j = 0; j < 34 && biased; j++) {
            x[j] += bias[head * 34 + j];
          }
          double[] expected = normBackward(x, 0, gradient, i, head < 3 ? qGain : kGain, 34);
          for (int j = 0; j < 34; j++) {
            double value = head == 4 ? gradient[i + j] : expected[j];
            assertEquals(value, actual[i + j], 2e-5 * Math.max(1, Math.abs(value)));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void gatedMlpMakesGradientsInPlaceAndItsValueAgain(Device device) {
    int rows = 2;
    for (int f : SIZES) {
      float[] gateUp = Values.random(DType.F32, rows * 2 * f, f);
      float[] gradient = Values.random(DType.F32, rows * f, f + 1);
      try (Scope scope = device.scope()) {
        Buffer both = scope.of(gateUp);
        Buffer post = scope.of(gradient);
        new BackwardKernels(device, DType.F32)
            .gatedMlp(both, both.slice(4L * f), post, rows, f, 2L * f);
        float[] slopes = both.toFloats(rows * 2 * f);
        float[] values = post.toFloats(rows * f);
        for (int i = 0; i < rows * f; i++) {
          int g = i / f * 2 * f + i % f;
          double gate = gateUp[g];
          double up = gateUp[g + f];
          double sigmoid = 1 / (1 + Math.exp(-gate));
          double slope = sigmoid * (1 + gate * (1 - sigmoid));
          assertEquals(gate * sigmoid * up, values[i], 1e-5);
          assertEquals(gradient[i] * up * slope, slopes[g], 1e-5);
          assertEquals(gradient[i] * gate * sigmoid, slopes[g + f], 1e-5);
        }
      }
    }
  }

  /** The gradient of a rotation is its inverse: it brings back what has been rotated. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void ropeTurnsBack(Device device) {
    Heads heads = new Heads(2, 1, 6);
    int[] positions = {0, 5, 1000};
    float[] frequencies = {1, 0.3f, 0.01f};
    float[] gradient = Values.random(DType.F32, positions.length * heads.width(), 1);
    try (Scope scope = device.scope()) {
      Buffer dqkv = scope.of(gradient);
      new BackwardKernels(device, DType.F32)
          .rope(dqkv, scope.of(frequencies), scope.of(positions), positions.length, heads);
      float[] actual = dqkv.toFloats(gradient.length);
      for (int i = 0; i < gradient.length; i++) {
        int column = i % heads.width();
        if (column >= 3 * 6) {
          assertEquals(gradient[i], actual[i], "values do not turn");
          continue;
        }
        int pair = column % 6 % 3;
        double angle = (float) positions[i / heads.width()] * frequencies[pair];
        boolean left = column % 6 < 3;
        double a = gradient[left ? i : i - 3];
        double b = gradient[left ? i + 3 : i];
        double expected =
            left
                ? a * Math.cos(angle) + b * Math.sin(angle)
                : b * Math.cos(angle) - a * Math.sin(angle);
        assertEquals(expected, actual[i], 1e-5);
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    int d = 257;
    float[] x = Values.random(DType.F32, 2 * d, 1);
    float[] dy = Values.random(DType.F32, 2 * d, 2);
    float[] gain = Values.random(DType.F32, d, 3);
    TestDevices.assertSchedulesAgree(
        device -> {
          try (Scope scope = device.scope()) {
            BackwardKernels kernels = new BackwardKernels(device, DType.F32);
            Buffer dx = scope.of(x);
            kernels.rmsnorm(dx, scope.of(x), scope.of(dy), null, scope.of(gain), 2, d, EPS);
            kernels.crossEntropy(
                scope.allocate(8), scope.allocate(8), dx, scope.of(3, 200), 2, d, 1);
            return dx.toFloats(2 * d);
          }
        });
  }
}
