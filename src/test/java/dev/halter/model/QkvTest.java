package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Biases, QK norm and rotation. What is appended to the cache shows in {@link AttentionTest}. */
class QkvTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";

  /** d_head below, at and above the faithful build's warp, and no multiple of it. */
  private static final int[] SIZES = {2, 31 * 2, 64, 66, 256};

  @ParameterizedTest
  @MethodSource(DEVICES)
  void addsTheBiasToEveryHeadAndNormalisesQueriesAndKeysOnly(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int dHead : SIZES) {
        ModelConfig config = AttentionRun.config(3, 1, dHead, 0);
        float[][] qkv = AttentionRun.random(config, type, 3, dHead);
        float[] bias = randomFloats(5 * dHead, 1);
        float[] qNorm = randomFloats(dHead, 2);
        float[] kNorm = randomFloats(dHead, 3);
        try (AttentionRun run = new AttentionRun(device, type, config, 3, 1)) {
          checkNormed(
              config, type, qkv, run.biasAndNorm(qkv, bias, qNorm, kNorm), bias, qNorm, kNorm);
          checkNormed(
              config, type, qkv, run.biasAndNorm(qkv, null, qNorm, kNorm), null, qNorm, kNorm);
          checkNormed(config, type, qkv, run.biasAndNorm(qkv, bias, null, null), bias, null, null);
          assertArrayEquals(qkv, run.biasAndNorm(qkv, null, null, null));
        }
      }
    }
  }

  /** transformers' Qwen3RMSNorm after a linear layer with bias, rounding where it rounds. */
  private static void checkNormed(
      ModelConfig config,
      DType type,
      float[][] before,
      float[][] after,
      float[] bias,
      float[] qNorm,
      float[] kNorm) {
    int d = config.dHead();
    for (int row = 0; row < before.length; row++) {
      for (int head = 0; head < 5; head++) {
        float[] x = new float[d];
        double squares = 0;
        for (int i = 0; i < d; i++) {
          float value = before[row][head * d + i];
          x[i] = bias == null ? value : AttentionRun.round(type, value + bias[head * d + i]);
          squares += (double) x[i] * x[i];
        }
        float[] gain = head < 3 ? qNorm : head < 4 ? kNorm : null;
        for (int i = 0; i < d; i++) {
          double expected = x[i];
          if (gain != null) {
            float normed =
                AttentionRun.round(
                    type, (float) (x[i] / Math.sqrt(squares / d + config.rmsNormEps())));
            expected = AttentionRun.round(type, gain[i] * normed);
          }
          // One bf16 step where f32's last bit tips the rounding to T.
          double tolerance = type == DType.F32 ? 1e-6 : 0.01;
          double got = after[row][head * d + i];
          assertEquals(expected, got, tolerance * Math.max(1, Math.abs(expected)));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rotatesQueriesAndKeysByTheirPositions(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int dHead : SIZES) {
        checkRotated(device, type, AttentionRun.config(2, 1, dHead, 0), 0, 130);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rotatesFarPositionsAsExactlyAsNearOnes(Device device) {
    checkRotated(device, DType.F32, AttentionRun.config(2, 1, 64, 0), 99_997, 3);
  }

  private static void checkRotated(
      Device device, DType type, ModelConfig config, int position, int n) {
    int dHead = config.dHead();
    try (AttentionRun run = new AttentionRun(device, type, config, position + n, 1)) {
      float[][] qkv = AttentionRun.random(config, type, n, dHead);
      Step step = run.step(null, new Part(run.open(position + n), position, qkv));
      float[] frequencies = config.inverseFrequencies();
      double tolerance = type == DType.F32 ? 1e-6 : 0.02;
      for (int row = 0; row < n; row++) {
        for (int head = 0; head < 4; head++) {
          for (int i = 0; i < dHead / 2; i++) {
            int a = head * dHead + i;
            int b = a + dHead / 2;
            double angle = head < 3 ? (position + row) * frequencies[i] : 0; // a float product
            double x = qkv[row][a] * Math.cos(angle) - qkv[row][b] * Math.sin(angle);
            double y = qkv[row][b] * Math.cos(angle) + qkv[row][a] * Math.sin(angle);
            assertEquals(x, step.rotated()[row][a], tolerance);
            assertEquals(y, step.rotated()[row][b], tolerance);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whoSharesARowShowsNeitherInItNorInTheCache(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int dHead : new int[] {2, 16, 66, 128}) {
        float[] expected = rotateAndAppend(device, type, dHead, 1, 32);
        for (int[] shape : new int[][] {{1, 128}, {2, 64}, {3, 32}, {7, 128}, {16, 96}}) {
          float[] values = rotateAndAppend(device, type, dHead, shape[0], shape[1]);
          assertArrayEquals(expected, values, "%d parts of %d".formatted(shape[0], shape[1]));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void inOneLaunchTheBitsAreThoseOfTwo(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int dHead : SIZES) {
        ModelConfig config = AttentionRun.config(3, 1, dHead, 0);
        float[][] qkv = AttentionRun.random(config, type, 3, dHead);
        float[] bias = randomFloats(5 * dHead, 1);
        float[] qNorm = randomFloats(dHead, 2);
        float[] kNorm = randomFloats(dHead, 3);
        for (float[][] changes :
            new float[][][] {{bias, qNorm, kNorm}, {null, qNorm, kNorm}, {bias, null, null}}) {
          try (AttentionRun run = new AttentionRun(device, type, config, 3, 2)) {
            float[][] changed = run.biasAndNorm(qkv, changes[0], changes[1], changes[2]);
            Step two = run.step(null, new Part(run.open(3), 0, changed));
            Step one =
                run.changing(new Part(run.open(3), 0, qkv), changes[0], changes[1], changes[2]);
            assertArrayEquals(two.rotated(), one.rotated());
            assertArrayEquals(two.z(), one.z()); // which the cache shows in
          }
        }
      }
    }
  }

  /** Rows of a prompt, of one and of several sequences, with the changes before and without. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void rowsTogetherAreThoseOfEachAlone(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int dHead : new int[] {2, 66, 128}) {
        for (int rows : new int[] {1, 8, 29}) {
          for (boolean changes : new boolean[] {false, true}) {
            float[] alone = rotateRows(device, type, dHead, rows, changes, false);
            float[] together = rotateRows(device, type, dHead, rows, changes, true);
            assertArrayEquals(alone, together, "%d rows of %d".formatted(rows, dHead));
          }
        }
      }
    }
  }

  /** Rows of 3 query and 2 KV heads of up to three sequences, from position 60 on; both caches. */
  private static float[] rotateRows(
      Device device, DType type, int dHead, int rows, boolean changes, boolean together) {
    int sequences = 3;
    int kvHeads = 2;
    int width = (3 + 2 * kvHeads) * dHead;
    int cache = 2 * sequences * kvHeads * dHead * KvCache.PAGE;
    int[] position = new int[rows];
    int[] sequence = new int[rows];
    for (int row = 0; row < rows; row++) {
      sequence[row] = row * sequences / rows;
      boolean follows = row > 0 && sequence[row - 1] == sequence[row];
      position[row] = follows ? position[row - 1] + 1 : 60 - sequence[row];
    }
    try (Buffer qkv = Values.buffer(device, type, Values.random(type, rows * width, dHead));
        Buffer bias = Values.buffer(device, DType.F32, randomFloats(width, 2));
        Buffer qNorm = Values.buffer(device, DType.F32, randomFloats(dHead, 3));
        Buffer kNorm = Values.buffer(device, DType.F32, randomFloats(dHead, 4));
        Buffer frequencies = Values.buffer(device, DType.F32, randomFloats(dHead / 2, 1));
        Buffer positions = Values.buffer(device, position);
        Buffer whose = Values.buffer(device, sequence);
        Buffer pages = Values.buffer(device, 1, 0, 3, 5, 2, 4);
        Buffer keys = Values.buffer(device, type, new float[cache]);
        Buffer cached = Values.buffer(device, type, new float[cache])) {
      List<Object> arguments =
          new ArrayList<>(
              Arrays.asList(
                  qkv,
                  changes ? bias : null,
                  changes ? qNorm : null,
                  changes ? kNorm : null,
                  1e-5f,
                  frequencies,
                  positions,
                  whose,
                  pages,
                  2,
                  keys,
                  cached,
                  3,
                  kvHeads,
                  dHead));
      String suffix = type.name().toLowerCase(Locale.ROOT);
      int block = together ? 512 : 64;
      if (together) {
        arguments.add(rows);
      }
      device.launch(
          device.kernel((together ? "rope_append_rows_" : "rope_append_") + suffix),
          Grid.of(together ? Math.ceilDiv(rows, 8) : rows, together ? 2 : 3),
          block,
          4 * (together ? 8 * (dHead + 2) + block : dHead + block),
          arguments.toArray());
      float[] k = Values.read(keys, type, cache);
      assertNotEquals(0, k[kvHeads * dHead * KvCache.PAGE + 60], "the first row's key");
      return AttentionRun.concatenate(
          Values.read(qkv, type, rows * width), k, Values.read(cached, type, cache));
    }
  }

  /** Rows of 5 query and 2 KV heads at positions 1 and 66 of one sequence; then both caches. */
  private static float[] rotateAndAppend(
      Device device, DType type, int dHead, int parts, int block) {
    int rows = 2;
    int kvHeads = 2;
    int width = (5 + 2 * kvHeads) * dHead;
    int page = kvHeads * dHead * KvCache.PAGE;
    float[] values = Values.random(type, rows * width, dHead);
    try (Buffer qkv = Values.buffer(device, type, values);
        Buffer frequencies = Values.buffer(device, DType.F32, randomFloats(dHead / 2, 1));
        Buffer positions = Values.buffer(device, 1, 66);
        Buffer sequences = Values.buffer(device, 0, 0);
        Buffer pages = Values.buffer(device, 1, 0);
        Buffer keys = Values.buffer(device, type, new float[2 * page]);
        Buffer cached = Values.buffer(device, type, new float[2 * page])) {
      device.launch(
          device.kernel("rope_append_" + type.name().toLowerCase(Locale.ROOT)),
          Grid.of(rows, parts),
          block,
          4 * (dHead + block),
          qkv,
          null,
          null,
          null,
          0f,
          frequencies,
          positions,
          sequences,
          pages,
          2,
          keys,
          cached,
          5,
          kvHeads,
          dHead);
      float[] rotated = Values.read(qkv, type, rows * width);
      float[] k = Values.read(keys, type, 2 * page);
      float[] v = Values.read(cached, type, 2 * page);
      for (int row = 0; row < rows; row++) {
        int place = row == 0 ? 1 : 2;
        for (int head = 0; head < kvHeads; head++) {
          for (int i = 0; i < dHead; i++) {
            int from = row * width + (5 + head) * dHead + i; // position 1 is on page 1, 66 on 0
            int to = (1 - row) * page + head * dHead * KvCache.PAGE;
            assertEquals(rotated[from], k[to + i * KvCache.PAGE + place]);
            assertEquals(values[from + kvHeads * dHead], v[to + place * dHead + i]);
          }
        }
      }
      assertNotEquals(values[5 * dHead], rotated[5 * dHead]);
      return AttentionRun.concatenate(rotated, k, v);
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    ModelConfig config = AttentionRun.config(3, 1, 66, 0);
    float[][] qkv = AttentionRun.random(config, DType.BF16, 2, 1);
    float[] result =
        TestDevices.assertSchedulesAgree(
            device -> {
              try (AttentionRun run = new AttentionRun(device, DType.BF16, config, 2, 1)) {
                float[][] normed =
                    run.biasAndNorm(
                        qkv, randomFloats(5 * 66, 1), randomFloats(66, 2), randomFloats(66, 3));
                return run.step(null, new Part(run.open(2), 0, normed)).rotated()[1];
              }
            });
    assertNotEquals(qkv[1][0], result[0]);
  }

  private static float[] randomFloats(int n, long seed) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
