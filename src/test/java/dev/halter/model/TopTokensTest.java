package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.model.TopTokens.Kept;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TopTokensTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int ROWS = 2;
  private static final int[] SIZES = {1, 31, 1023, 1024, 1025, 3000};
  private static final float NONE = Float.NEGATIVE_INFINITY;

  @ParameterizedTest
  @MethodSource(DEVICES)
  void keepsTheLargestAndTheSumOfAll(Device device) {
    for (int n : SIZES) {
      float[] logits = Values.random(DType.F32, ROWS * n, n);
      for (int k : new int[] {1, 5, 64}) {
        for (int sign : new int[] {1, -1}) {
          check(logits, n, k, sign, take(device, logits, n, n, k, sign));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void ofEqualLogitsTheLowestIdsComeFirst(Device device) {
    int n = 2100;
    float[] logits = new float[ROWS * n];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = i % 3; // the best 64 of 700 equal ones
    }
    check(logits, n, 64, 1, take(device, logits, n, n, 64, 1));
    check(logits, n, 64, -1, take(device, logits, n, 500, 64, -1));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aVocabularyInTilesGivesTheSame(Device device) {
    int n = 3000;
    float[] logits = Values.random(DType.F32, ROWS * n, 7);
    Kept whole = take(device, logits, n, n, 20, 1);
    for (int tile : new int[] {7, 1024, 2999}) {
      Kept tiled = take(device, logits, n, tile, 20, 1);
      assertArrayEquals(whole.ids(), tiled.ids());
      assertArrayEquals(whole.logits(), tiled.logits());
      assertArrayEquals(whole.logZ(), tiled.logZ(), 1e-5f); // summed in other pieces
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void absentLogitsAreLeftOutWhereverTheyAre(Device device) {
    int n = 2048;
    float[] logits = new float[ROWS * n];
    Arrays.fill(logits, NONE);
    logits[1500] = 1; // a whole piece of 1,024 before it is absent
    logits[1501] = 2;
    Kept kept = take(device, logits, n, n, 3, 1);
    assertArrayEquals(new int[] {1501, 1500, -1, -1, -1, -1}, kept.ids());
    assertArrayEquals(new float[] {2, 1, NONE, NONE, NONE, NONE}, kept.logits());
    assertEquals(Math.log(Math.exp(1) + Math.exp(2)), kept.logZ()[0], 1e-6);
    assertEquals(NONE, kept.logZ()[1]);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void notANumberIsSkippedByTheSelectionAndShowsInTheSum(Device device) {
    float[] logits = {3, Float.NaN, 5, 4, 3, 2, 1, 0};
    Kept kept = take(device, logits, 4, 4, 3, 1);
    assertArrayEquals(new int[] {2, 3, 0, 0, 1, 2}, kept.ids());
    assertTrue(Float.isNaN(kept.logZ()[0]));
    assertEquals(Math.log(Math.exp(3) + Math.exp(2) + Math.exp(1) + 1), kept.logZ()[1], 1e-6);
  }

  @Test
  void schedulesAgreeBitByBit() {
    float[] logits = Values.random(DType.BF16, ROWS * 1500, 3); // with ties
    TestDevices.assertSchedulesAgree(
        device -> {
          Kept kept = take(device, logits, 1500, 700, 30, -1);
          float[] ids = new float[kept.ids().length];
          for (int i = 0; i < ids.length; i++) {
            ids[i] = kept.ids()[i];
          }
          return AttentionRun.concatenate(ids, kept.logits(), kept.logZ());
        });
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void refusesToKeepNoneOrTooMany(Device device) {
    for (int k : new int[] {0, 65}) {
      var error = assertThrows(IllegalArgumentException.class, () -> new TopTokens(device, 1, k));
      assertTrue(error.getMessage().contains("1 to 64"), error.getMessage());
    }
  }

  /** Rows end to end, tile by tile. */
  private static Kept take(Device device, float[] logits, int n, int tile, int k, int sign) {
    try (TopTokens top = new TopTokens(device, ROWS, k);
        Buffer buffer = Values.buffer(device, DType.F32, logits)) {
      for (int first = 0; first < n; first += tile) {
        int columns = Math.min(tile, n - first);
        top.take(buffer.slice(4L * first), ROWS, columns, n, first, sign);
      }
      return top.kept(ROWS);
    }
  }

  private static void check(float[] logits, int n, int k, int sign, Kept kept) {
    for (int row = 0; row < ROWS; row++) {
      int at = row * n;
      List<Integer> order =
          IntStream.range(0, n)
              .boxed()
              .sorted(Comparator.comparingDouble(i -> -sign * (double) logits[at + i]))
              .toList();
      double sum = 0;
      for (int i = 0; i < n; i++) {
        sum += Math.exp(sign * logits[at + i]);
      }
      assertEquals(Math.log(sum), kept.logZ()[row], 2e-6 * Math.max(1, Math.log(sum)));
      for (int i = 0; i < k; i++) {
        assertEquals(i < n ? order.get(i) : -1, kept.ids()[row * k + i]);
        float expected = i < n ? sign * logits[at + order.get(i)] : NONE;
        assertEquals(expected, kept.logits()[row * k + i]);
      }
    }
  }
}
