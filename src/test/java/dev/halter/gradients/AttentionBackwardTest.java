package dev.halter.gradients;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

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

/** Gradients through attention against double arithmetic, over ragged batches. */
class AttentionBackwardTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";

  /** One shape of heads, lengths of sequences, and a window. */
  private record Case(Heads heads, int window, int... lengths) {
    int rows() {
      return IntStream.of(lengths).sum();
    }

    float[] qkv() {
      return Values.random(DType.F32, rows() * heads.width(), heads.dHead());
    }

    float[] dz() {
      return Values.random(DType.F32, rows() * heads.heads() * heads.dHead(), window + 7);
    }
  }

  private static final Case[] CASES = {
    new Case(new Heads(1, 1, 2), 0, 1),
    new Case(new Heads(4, 4, 16), 0, 33, 1, 70),
    new Case(new Heads(6, 2, 10), 0, 5, 40, 31),
    new Case(new Heads(8, 1, 64), 0, 3, 19),
    new Case(new Heads(5, 1, 34), 9, 50, 2),
    new Case(new Heads(4, 2, 32), 1, 12),
    new Case(new Heads(4, 2, 32), 33, 70, 33),
    new Case(new Heads(2, 1, 256), 0, 18),
    new Case(new Heads(40, 1, 4), 0, 9),
  };

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmetic(Device device) {
    for (Case of : CASES) {
      Expected expected = new Expected(of);
      float[] actual = run(device, of, expected.z(), expected.logSums);
      double largest = Arrays.stream(expected.dqkv).map(Math::abs).max().orElseThrow();
      for (int i = 0; i < actual.length; i++) {
        assertEquals(expected.dqkv[i], actual[i], 1e-5 * largest, of + " at " + i);
      }
    }
  }

  /** A sequence's gradients are the same bits whatever lies beside it. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void sequencesKeepToThemselves(Device device) {
    Case both = CASES[2];
    Case last = new Case(both.heads, 0, 31);
    int qkvAt = 45 * both.heads.width();
    int zAt = 45 * both.heads.heads() * both.heads.dHead();
    Expected expected = new Expected(both);
    float[] z = expected.z();
    float[] together = run(device, both, z, expected.logSums);
    float[] alone =
        run(
            device,
            last,
            Arrays.copyOfRange(both.qkv(), qkvAt, both.qkv().length),
            Arrays.copyOfRange(z, zAt, z.length),
            Arrays.copyOfRange(expected.logSums, 45 * both.heads.heads(), expected.logSums.length),
            Arrays.copyOfRange(both.dz(), zAt, z.length));
    assertArrayEquals(Arrays.copyOfRange(together, qkvAt, together.length), alone);
  }

  @Test
  void schedulesAgreeBitByBit() {
    Expected expected = new Expected(CASES[4]);
    float[] z = expected.z();
    TestDevices.assertSchedulesAgree(device -> run(device, CASES[4], z, expected.logSums));
  }

  private static float[] run(Device device, Case of, float[] z, float[] logSums) {
    return run(device, of, of.qkv(), z, logSums, of.dz());
  }

  private static float[] run(
      Device device, Case of, float[] qkv, float[] z, float[] logSums, float[] dz) {
    try (Scope scope = device.scope()) {
      AttentionBackward attention = new AttentionBackward(scope, of.heads, DType.F32, of.rows());
      attention.prepare(of.lengths);
      Buffer dqkv = scope.allocate(4L * qkv.length);
      attention.run(dqkv, scope.of(qkv), scope.of(z), scope.of(dz), scope.of(logSums), of.window);
      return dqkv.toFloats(qkv.length);
    }
  }

  /** What the formulas say, sum by sum. */
  private static final class Expected {
    private final Case of;
    private final float[] qkv;
    private final float[] dz;
    private final double[] z;
    final double[] dqkv;
    final float[] logSums;

    Expected(Case of) {
      this.of = of;
      this.qkv = of.qkv();
      this.dz = of.dz();
      this.z = new double[dz.length];
      this.dqkv = new double[qkv.length];
      this.logSums = new float[of.rows() * of.heads.heads()];
      int first = 0;
      for (int length : of.lengths) {
        for (int row = first; row < first + length; row++) {
          int from = of.window == 0 ? first : Math.max(first, row - of.window + 1);
          for (int head = 0; head < of.heads.heads(); head++) {
            add(row, head, from);
          }
        }
        first += length;
      }
    }

    float[] z() {
      float[] values = new float[z.length];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) z[i];
      }
      return values;
    }

    private int at(int row, int head) {
      return row * of.heads.width() + head * of.heads.dHead();
    }

    private void add(int row, int head, int from) {
      int d = of.heads.dHead();
      int kv = head / (of.heads.heads() / of.heads.kvHeads());
      int zAt = (row * of.heads.heads() + head) * d;
      int qAt = at(row, head);
      double scale = 1 / Math.sqrt(d);
      double[] weights = new double[row - from + 1];
      for (int key = from; key <= row; key++) {
        int kAt = at(key, of.heads.heads() + kv);
        for (int i = 0; i < d; i++) {
          weights[key - from] += (double) qkv[qAt + i] * qkv[kAt + i];
        }
        weights[key - from] = Math.exp(scale * weights[key - from]);
      }
      double sum = Arrays.stream(weights).sum();
      logSums[row * of.heads.heads() + head] = (float) Math.log(sum);
      for (int key = from; key <= row; key++) {
        weights[key - from] /= sum;
        int vAt = at(key, of.heads.heads() + of.heads.kvHeads() + kv);
        for (int i = 0; i < d; i++) {
          z[zAt + i] += weights[key - from] * qkv[vAt + i];
        }
      }
      for (int key = from; key <= row; key++) {
        int kAt = at(key, of.heads.heads() + kv);
        int vAt = at(key, of.heads.heads() + of.heads.kvHeads() + kv);
        double weight = weights[key - from];
        double slope = 0;
        for (int i = 0; i < d; i++) {
          slope += dz[zAt + i] * (qkv[vAt + i] - z[zAt + i]);
        }
        slope *= weight * scale;
        for (int i = 0; i < d; i++) {
          dqkv[vAt + i] += weight * dz[zAt + i];
          dqkv[qAt + i] += slope * qkv[kAt + i];
          dqkv[kAt + i] += slope * qkv[qAt + i];
        }
      }
    }
  }
}
