package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class AttentionTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";

  /** Sequence lengths around the edges of pages. */
  private static final int[] LENGTHS = {1, 31, 63, 64, 65, 127, 129, 300};

  private static final int ROWS = Arrays.stream(LENGTHS).sum();

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmeticAroundPageEdges(Device device) {
    checkPrefills(device, DType.F32, AttentionRun.config(2, 1, 16, 0), 2e-6);
    checkPrefills(device, DType.BF16, AttentionRun.config(2, 1, 16, 0), 8e-3);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesForEverySizeOfGroupAndHead(Device device) {
    // 7 query heads to a KV head and 40 rows leave register blocks of every size; 20 heads are more
    // than a block holds at once.
    int[][] shapes = {{1, 1, 2}, {3, 3, 64}, {4, 2, 80}, {4, 1, 128}, {14, 2, 6}, {20, 1, 32}};
    for (int[] shape : shapes) {
      ModelConfig config = AttentionRun.config(shape[0], shape[1], shape[2], 0);
      for (DType type : List.of(DType.F32, DType.BF16)) {
        try (AttentionRun run = new AttentionRun(device, type, config, 70, 1)) {
          float[][] qkv = AttentionRun.random(config, type, 70, 1);
          Step step = run.step(null, new Part(run.open(70), 0, qkv));
          check(config, step, 0, 70, type == DType.F32 ? 2e-6 : 8e-3);
        }
      }
    }
  }

  @Test
  void agreesForTheWidestHeads() {
    ModelConfig config = AttentionRun.config(2, 1, 256, 0);
    try (Device device = CpuDevice.open(1);
        AttentionRun run = new AttentionRun(device, DType.F32, config, 129, 1)) {
      float[][] qkv = AttentionRun.random(config, DType.F32, 129, 1);
      check(config, run.step(null, new Part(run.open(129), 0, qkv)), 0, 129, 2e-6);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void seesOnlyTheWindow(Device device) {
    for (int window : new int[] {1, 5, 63, 64, 65, 100}) {
      ModelConfig windowed = AttentionRun.config(2, 2, 8, window);
      ModelConfig whole = AttentionRun.config(2, 2, 8, 0);
      try (AttentionRun run = new AttentionRun(device, DType.F32, windowed, 200, 1)) {
        float[][] qkv = AttentionRun.random(windowed, DType.F32, 200, window);
        Step step = run.step(null, new Part(run.open(200), 0, qkv));
        check(windowed, step, 0, 200, 2e-6);
        // It matters: without the window the first row beyond it differs.
        List<float[]> rotated = Arrays.asList(step.rotated());
        assertTrue(
            distance(step.z()[window], AttentionRun.expected(whole, rotated, window)) > 1e-3);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void logSumExpsAreLeftWhereTheyAreWantedAndChangeNothing(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int window : new int[] {0, 70}) {
        ModelConfig config =
            AttentionRun.config(4, 2, 64, window); // on a card for tensor cores too
        for (int length : new int[] {1, 40, 150}) {
          float[][] qkv = AttentionRun.random(config, type, length, 3);
          try (AttentionRun run = new AttentionRun(device, type, config, length, 2)) {
            Step plain = run.step(null, new Part(run.open(length), 0, qkv));
            Step kept = run.keepingLogSums(new Part(run.open(length), 0, qkv));
            assertArrayEquals(plain.z(), kept.z());
            List<float[]> rotated = Arrays.asList(kept.rotated());
            for (int i = 0; i < length * 4; i++) {
              double sum =
                  Arrays.stream(AttentionRun.expectedWeights(config, rotated, i / 4, i % 4)).sum();
              assertEquals(Math.log(sum), kept.changes()[i], 1e-5 * Math.max(1, Math.log(sum)));
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void chunksAndDecodeStepsInAnyBatchGiveTheBitsOfOnePrefill(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int window : new int[] {0, 70}) {
        ModelConfig config = AttentionRun.config(6, 2, 16, window);
        try (AttentionRun run = new AttentionRun(device, type, config, 200, 4)) {
          float[][] qkv = AttentionRun.random(config, type, 150, 3);
          float[][] other = AttentionRun.random(config, type, 100, 4);
          float[][] whole = run.step(null, new Part(run.open(150), 0, qkv)).z();

          // Chunks of odd sizes, each beside rows of another sequence, the last token by itself.
          int sequence = run.open(150);
          int beside = run.open(100);
          int[] cuts = {0, 1, 30, 64, 97, 149, 150};
          float[][] parts = new float[150][];
          for (int i = 0; i + 1 < cuts.length; i++) {
            Part chunk = new Part(sequence, cuts[i], Arrays.copyOfRange(qkv, cuts[i], cuts[i + 1]));
            Part neighbour =
                new Part(beside, 10 * i, Arrays.copyOfRange(other, 10 * i, 10 * i + 10));
            Step step = run.step(null, neighbour, chunk);
            System.arraycopy(step.z(), 10, parts, cuts[i], cuts[i + 1] - cuts[i]);
          }
          for (int row = 0; row < 150; row++) {
            assertArrayEquals(whole[row], parts[row], "row " + row);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void scalesTheListedHeadsOfSteeredRowsAndReportsTheChange(Device device) {
    ModelConfig config = AttentionRun.config(4, 2, 8, 0);
    Site site = new Site(Site.Kind.Z, 0);
    List<Edit> edits =
        List.of(
            new Edit.Heads(site, new int[] {1, 2}, 0), new Edit.Heads(site, new int[] {3}, 0.5f));
    try (AttentionRun run = new AttentionRun(device, DType.F32, config, 80, 2);
        SteeringTable steering = new SteeringTable(device, List.of(edits), 4)) {
      float[][] qkv = AttentionRun.random(config, DType.F32, 80, 5);
      Step plain = run.step(null, new Part(run.open(80), 0, qkv));
      int[] slots = IntStream.range(0, 80).map(row -> row % 3 == 0 ? 1 : 0).toArray();
      Step steered = run.step(steering, new Part(run.open(80), 0, qkv, slots));
      int at = steering.places(1).get(1).at();
      for (int row = 0; row < 80; row++) {
        float[] before = plain.z()[row];
        float[] after = steered.z()[row];
        if (slots[row] == 0) {
          assertArrayEquals(before, after, "row " + row + " has slot 0");
          continue;
        }
        assertFalse(Arrays.equals(before, after));
        for (int i = 0; i < 8; i++) {
          assertEquals(before[i], after[i]);
          assertEquals(0, Math.abs(after[8 + i]));
          assertEquals(0, Math.abs(after[16 + i]));
          assertEquals(before[24 + i] * 0.5f, after[24 + i]);
        }
        float[] report =
            Arrays.copyOfRange(
                steered.changes(),
                row * steering.reportStride(),
                (row + 1) * steering.reportStride());
        assertEquals(0, report[0]);
        assertEquals(squares(before, 8, 16), report[1], 1e-5 * report[1]);
        assertEquals(squares(before, 16, 24), report[2], 1e-5 * report[2]);
        assertEquals(squares(before, 24, 32) / 4, report[at + 3], 1e-5 * report[at + 3]);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void mapsTheListedHeadsOfSteeredRowsAndReportsTheChange(Device device) {
    for (int dHead : new int[] {6, 80}) {
      ModelConfig config = AttentionRun.config(6, 2, dHead, 0);
      Edit.HeadAffine maps = AttentionRun.maps(config, dHead, 5, 0, 2);
      try (AttentionRun run = new AttentionRun(device, DType.F32, config, 40, 2);
          SteeringTable steering = new SteeringTable(device, List.of(List.of(maps)), 6)) {
        float[][] qkv = AttentionRun.random(config, DType.F32, 40, 5);
        Step plain = run.step(null, new Part(run.open(40), 0, qkv));
        int[] slots = IntStream.range(0, 40).map(row -> row % 3 == 0 ? 1 : 0).toArray();
        Step steered = run.step(steering, new Part(run.open(40), 0, qkv, slots));
        for (int row = 0; row < 40; row++) {
          float[] before = plain.z()[row];
          float[] after = steered.z()[row];
          if (slots[row] == 0) {
            assertArrayEquals(before, after, "row " + row + " has slot 0");
            continue;
          }
          assertFalse(Arrays.equals(before, after));
          int report = row * steering.reportStride();
          AttentionRun.assertMapped(maps, before, after, steered.changes(), report, 2e-5);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void nanStaysInItsSequenceAndReachesNoEarlierRow(Device device) {
    ModelConfig config = AttentionRun.config(4, 2, 16, 0);
    try (AttentionRun run = new AttentionRun(device, DType.F32, config, 200, 4)) {
      float[][] good = AttentionRun.random(config, DType.F32, 90, 6);
      float[][] bad = Arrays.stream(good).map(float[]::clone).toArray(float[][]::new);
      Arrays.fill(bad[70], Float.NaN);
      Step clean = run.step(null, new Part(run.open(90), 0, good));
      Step mixed = run.step(null, new Part(run.open(90), 0, bad), new Part(run.open(90), 0, good));
      for (int row = 0; row < 90; row++) {
        assertArrayEquals(clean.z()[row], mixed.z()[90 + row], "the other sequence");
        if (row < 70) {
          assertArrayEquals(clean.z()[row], mixed.z()[row], "a row before the NaN");
        } else {
          assertTrue(Float.isNaN(mixed.z()[row][0]), "row " + row + " sees the NaN");
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void nanBeforeTheWindowIsNotSeen(Device device) {
    ModelConfig config = AttentionRun.config(2, 1, 16, 10);
    try (AttentionRun run = new AttentionRun(device, DType.F32, config, 100, 1)) {
      float[][] qkv = AttentionRun.random(config, DType.F32, 100, 7);
      Arrays.fill(qkv[60], Float.NaN);
      float[][] z = run.step(null, new Part(run.open(100), 0, qkv)).z();
      for (int row = 0; row < 100; row++) {
        assertEquals(row >= 60 && row < 70, Float.isNaN(z[row][0]), "row " + row);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void patternsOfChosenHeadsAreTheSoftmaxOfTheirScores(Device device) {
    int[] heads = {4, 1};
    for (int window : new int[] {0, 20}) {
      ModelConfig config = AttentionRun.config(6, 3, 16, window);
      try (AttentionRun run = new AttentionRun(device, DType.F32, config, 130, 1)) {
        float[][] qkv = AttentionRun.random(config, DType.F32, 130, 8);
        int sequence = run.open(130);
        Step first = run.step(null, new Part(sequence, 0, Arrays.copyOf(qkv, 50)));
        Part rest = new Part(sequence, 50, Arrays.copyOfRange(qkv, 50, 130));
        float[] patterns = run.pattern(rest, heads);
        Step second = run.step(null, rest);
        List<float[]> rotated = new ArrayList<>(Arrays.asList(first.rotated()));
        rotated.addAll(Arrays.asList(second.rotated()));
        for (int h = 0; h < heads.length; h++) {
          for (int row = 0; row < 80; row++) {
            double[] expected = AttentionRun.expectedPattern(config, rotated, 50 + row, heads[h]);
            for (int key = 0; key < 130; key++) {
              float got = patterns[(h * 80 + row) * 130 + key];
              assertEquals(key <= 50 + row ? expected[key] : 0, got, 1e-6);
            }
          }
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    ModelConfig config = AttentionRun.config(4, 2, 16, 0);
    TestDevices.assertSchedulesAgree(
        device -> {
          try (AttentionRun run = new AttentionRun(device, DType.BF16, config, 140, 2);
              SteeringTable steering =
                  new SteeringTable(
                      device,
                      List.of(
                          List.of(new Edit.Heads(new Site(Site.Kind.Z, 0), new int[] {0, 3}, -2))),
                      4)) {
            float[][] qkv = AttentionRun.random(config, DType.BF16, 70, 9);
            int[] slots = IntStream.range(0, 70).map(row -> row & 1).toArray();
            Step step =
                run.step(
                    steering,
                    new Part(run.open(70), 0, qkv, slots),
                    new Part(run.open(70), 0, qkv));
            float[] patterns = run.pattern(new Part(0, 0, qkv), 0, 1, 2, 3);
            return AttentionRun.concatenate(step.all(), patterns);
          }
        });
  }

  @Test
  void refusesHeadsThatItCannotHold() {
    try (Device device = CpuDevice.open(1)) {
      for (int dHead : new int[] {7, 258}) {
        ModelConfig config = AttentionRun.config(2, 1, dHead, 0);
        IllegalArgumentException e =
            assertThrows(
                IllegalArgumentException.class,
                () ->
                    new Attention(
                        device.scope(), config, DType.F32, new Llama.Limits(1, 1, 1, 1, 1)));
        assertTrue(e.getMessage().contains("d_head is " + dHead), e.getMessage());
      }
    }
  }

  /** One ragged batch with a sequence of each length. */
  private static void checkPrefills(
      Device device, DType type, ModelConfig config, double tolerance) {
    try (AttentionRun run = new AttentionRun(device, type, config, ROWS, LENGTHS.length)) {
      Part[] parts = new Part[LENGTHS.length];
      for (int i = 0; i < parts.length; i++) {
        float[][] qkv = AttentionRun.random(config, type, LENGTHS[i], i);
        parts[i] = new Part(run.open(LENGTHS[i]), 0, qkv);
      }
      Step step = run.step(null, parts);
      int first = 0;
      for (int length : LENGTHS) {
        check(config, step, first, length, tolerance);
        first += length;
      }
    }
  }

  private static void check(
      ModelConfig config, Step step, int first, int length, double tolerance) {
    List<float[]> rotated = Arrays.asList(step.rotated()).subList(first, first + length);
    for (int row = 0; row < length; row++) {
      double distance =
          distance(step.z()[first + row], AttentionRun.expected(config, rotated, row));
      assertTrue(distance <= tolerance, "row " + row + " of " + length + " is off by " + distance);
    }
  }

  /** The largest difference; NaN if there is one. */
  private static double distance(float[] actual, double[] expected) {
    double distance = 0;
    for (int i = 0; i < expected.length; i++) {
      distance = Math.max(distance, Math.abs(actual[i] - expected[i]));
    }
    return distance;
  }

  private static float squares(float[] values, int from, int to) {
    double sum = 0;
    for (int i = from; i < to; i++) {
      sum += (double) values[i] * values[i];
    }
    return (float) sum;
  }
}
