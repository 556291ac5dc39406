package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Decoding with the keys split over blocks: against double arithmetic, and to the last bit against
 * the kernel that walks all keys in one block. Devices as for {@link AttentionSm80Test}.
 */
class AttentionSplitTest {
  private static final String DEVICES = "dev.halter.model.AttentionSm80Test#devices";

  /** Weights are rounded to bf16, and so is z: two roundings of values around 1. */
  private static final double TOLERANCE = 0.02;

  private static AttentionRun open(
      Device device, ModelConfig config, boolean split, int rows, int sequences) {
    Attention.Form form = Attention.Form.sm80(config);
    return new AttentionRun(
        device, DType.BF16, config, split ? form : form.whole(), rows, sequences);
  }

  private static Part row(int sequence, int position, float[][] qkv) {
    return new Part(sequence, position, new float[][] {qkv[position]});
  }

  private static Part rows(int sequence, int from, int to, float[][] qkv) {
    return new Part(sequence, from, Arrays.copyOfRange(qkv, from, to));
  }

  /** Decodes the last token of each context, which grows; returns z of each. */
  private static float[][] decode(AttentionRun run, float[][] qkv, int[] contexts) {
    int sequence = run.open(qkv.length);
    List<float[]> rotated = new ArrayList<>();
    float[][] z = new float[contexts.length][];
    for (int i = 0; i < contexts.length; i++) {
      int last = contexts[i] - 1;
      if (rotated.size() < last) {
        rotated.addAll(List.of(run.append(rows(sequence, rotated.size(), last, qkv))));
      }
      Step step = run.step(null, row(sequence, last, qkv));
      rotated.add(step.rotated()[0]);
      z[i] = step.z()[0];
      double[] expected = AttentionRun.expected(run.config, rotated, last);
      for (int d = 0; d < expected.length; d++) {
        assertEquals(expected[d], z[i][d], TOLERANCE, "context " + contexts[i] + ", " + d);
      }
    }
    return z;
  }

  private static void assertSplitAndWholeAgree(Device device, int[] shape, int... contexts) {
    ModelConfig config = AttentionRun.config(shape[0], shape[1], shape[2], shape[3]);
    int longest = contexts[contexts.length - 1];
    float[][] qkv = AttentionRun.random(config, DType.BF16, longest, longest);
    try (AttentionRun split = open(device, config, true, longest, 1);
        AttentionRun whole = open(device, config, false, longest, 1)) {
      float[][] expected = decode(whole, qkv, contexts);
      float[][] actual = decode(split, qkv, contexts);
      for (int i = 0; i < contexts.length; i++) {
        String what = Arrays.toString(shape) + " at context " + contexts[i];
        assertArrayEquals(expected[i], actual[i], what);
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesAroundTheEdgesOfSplitsForEverySizeOfGroup(Device device) {
    int[][] shapes = {
      {1, 1, 64, 0}, {3, 1, 128, 0}, {8, 2, 64, 0}, {7, 1, 64, 0}, {16, 1, 64, 0}, {17, 1, 64, 0}
    };
    int[] contexts = {1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 383, 511, 512, 513};
    for (int[] shape : shapes) {
      assertSplitAndWholeAgree(device, shape, contexts);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesInLongContexts(Device device) {
    // 9 splits are more than a merge has under way at once.
    assertSplitAndWholeAgree(device, new int[] {8, 2, 128, 0}, 1000, 1024, 1025, 1152, 1153);
    assertSplitAndWholeAgree(device, new int[] {4, 1, 64, 0}, 4095, 4096);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithSlidingWindows(Device device) {
    int[] contexts = {1, 64, 65, 128, 129, 192, 193, 200, 256, 257, 320, 384, 385, 600};
    for (int window : new int[] {1, 64, 65, 128, 129, 200, 256, 500}) {
      assertSplitAndWholeAgree(device, new int[] {4, 2, 64, window}, contexts);
    }
    assertSplitAndWholeAgree(device, new int[] {4, 1, 128, 130}, contexts);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void oneRowAtATimeGivesTheBitsOfOnePrefill(Device device) {
    for (int window : new int[] {0, 140}) {
      ModelConfig config = AttentionRun.config(4, 1, 64, window);
      float[][] qkv = AttentionRun.random(config, DType.BF16, 400, 3);
      try (AttentionRun run = open(device, config, true, 400, 2)) {
        float[][] whole = run.step(null, new Part(run.open(400), 0, qkv)).z();
        int sequence = run.open(400);
        run.append(new Part(sequence, 0, qkv));
        for (int row : new int[] {0, 15, 16, 126, 127, 128, 129, 200, 255, 256, 257, 388, 399}) {
          float[][] z = run.step(null, row(sequence, row, qkv)).z();
          assertArrayEquals(whole[row], z[0], "row " + row);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowHasTheSameBitsAloneAndInCompany(Device device) {
    ModelConfig config = AttentionRun.config(6, 2, 64, 0);
    int[] contexts = {300, 1, 128, 640, 129, 90};
    try (AttentionRun run = open(device, config, true, 640, contexts.length + 1)) {
      Part[] parts = new Part[contexts.length + 1];
      float[][] alone = new float[contexts.length][];
      for (int i = 0; i < contexts.length; i++) {
        float[][] qkv = AttentionRun.random(config, DType.BF16, contexts[i], i);
        int sequence = run.open(contexts[i]);
        if (contexts[i] > 1) {
          run.append(rows(sequence, 0, contexts[i] - 1, qkv));
        }
        parts[i] = row(sequence, contexts[i] - 1, qkv);
        alone[i] = run.step(null, parts[i]).z()[0];
      }
      float[][] prompt = AttentionRun.random(config, DType.BF16, 43, 9);
      parts[contexts.length] = new Part(run.open(43), 0, prompt); // its last tile has one row
      float[][] beside = run.step(null, parts[contexts.length]).z();
      assertEquals(0, run.work().shape().split(), "keys of the step itself are not read early");
      float[][] z = run.step(null, parts).z();
      for (int i = 0; i < contexts.length; i++) {
        assertArrayEquals(alone[i], z[i], "context " + contexts[i]);
      }
      for (int row = 0; row < 43; row++) {
        assertArrayEquals(beside[row], z[contexts.length + row], "row " + row + " of the prompt");
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rowsThatTheScratchHasNoRoomForGiveTheSameBits(Device device) {
    ModelConfig config = AttentionRun.config(4, 1, 64, 0);
    float[][] qkv = AttentionRun.random(config, DType.BF16, 400, 3);
    try (AttentionRun run = open(device, config, true, 400, 1)) {
      int sequence = run.open(400);
      run.append(new Part(sequence, 0, qkv));
      Part[] parts =
          IntStream.of(399, 10, 398, 290)
              .mapToObj(position -> row(sequence, position, qkv))
              .toArray(Part[]::new);
      float[][] z = run.step(null, parts).z();
      for (int i = 0; i < parts.length; i++) {
        assertArrayEquals(run.step(null, parts[i]).z()[0], z[i]);
      }
    }
  }

  /** Slot 1 scales heads twice, slot 2 maps one and scales what came of it; slot 3 does nothing. */
  private static List<List<Edit>> edits(ModelConfig config) {
    Site site = new Site(Site.Kind.Z, 0);
    return List.of(
        List.of(
            new Edit.Heads(site, new int[] {0, 2}, 0.5f),
            new Edit.Heads(site, new int[] {2, 5}, -3)),
        List.of(AttentionRun.maps(config, 5, 4, 1), new Edit.Heads(site, new int[] {1}, 2)),
        List.of());
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void editsHeadsOfShortAndLongContextsAndReportsTheChange(Device device) {
    int[] contexts = {5, 128, 129, 700};
    for (int dHead : new int[] {64, 128}) {
      ModelConfig config = AttentionRun.config(6, 2, dHead, 0);
      int n = contexts.length;
      try (AttentionRun split = open(device, config, true, 700, n);
          AttentionRun whole = open(device, config, false, 700, n);
          AttentionRun portable =
              new AttentionRun(
                  device, DType.BF16, config, Attention.Form.portable(config, DType.BF16), 700, n);
          SteeringTable steering = new SteeringTable(device, edits(config), 6)) {
        AttentionRun[] runs = {split, whole, portable};
        for (AttentionRun run : runs) {
          for (int i = 0; i < n; i++) {
            float[][] qkv = AttentionRun.random(config, DType.BF16, contexts[i], i);
            run.append(rows(run.open(contexts[i]), 0, contexts[i] - 1, qkv));
          }
        }
        int stride = steering.reportStride();
        Step plain = split.step(null, lastRows(config, contexts, 0));
        for (int slot = 0; slot <= 3; slot++) {
          Part[] parts = lastRows(config, contexts, slot);
          Step step = split.step(steering, parts);
          Step same = whole.step(steering, parts);
          Step other = portable.step(steering, parts);
          for (int i = 0; i < n; i++) {
            String what = "slot " + slot + ", context " + contexts[i];
            assertArrayEquals(same.z()[i], step.z()[i], what);
            if (slot == 0 || slot == 3) {
              assertArrayEquals(plain.z()[i], step.z()[i], what);
            } else {
              assertFalse(Arrays.equals(plain.z()[i], step.z()[i]));
            }
            for (int d = 0; d < 6 * dHead; d++) {
              assertEquals(other.z()[i][d], step.z()[i][d], 8 * TOLERANCE, what);
            }
            for (int k = i * stride; k < (i + 1) * stride; k++) {
              float change = step.changes()[k];
              assertEquals(same.changes()[k], change, 1e-5 * change, what);
              assertEquals(other.changes()[k], change, 0.05 * (0.1 + change), what);
            }
          }
        }
      }
    }
  }

  private static Part[] lastRows(ModelConfig config, int[] contexts, int slot) {
    return IntStream.range(0, contexts.length)
        .mapToObj(
            i -> {
              float[][] qkv = AttentionRun.random(config, DType.BF16, contexts[i], i);
              float[][] last = {qkv[contexts[i] - 1]};
              return new Part(i, contexts[i] - 1, last, new int[] {slot});
            })
        .toArray(Part[]::new);
  }

  static Stream<Device> cuda() {
    return Stream.of(TestCuda.open());
  }

  /** The context passes from one split to ten, each recording serving several splits. */
  @ParameterizedTest
  @MethodSource("cuda")
  void recordedStepsStayRightAsContextsGrow(Device device) {
    ModelConfig config = AttentionRun.config(4, 2, 64, 0);
    float[][] qkv = AttentionRun.random(config, DType.BF16, 1200, 3);
    float[][] other = AttentionRun.random(config, DType.BF16, 1200, 4);
    try (AttentionRun recorded = open(device, config, true, 1200, 2);
        AttentionRun whole = open(device, config, false, 1200, 2)) {
      for (AttentionRun run : List.of(recorded, whole)) {
        run.append(rows(run.open(1200), 0, 90, qkv));
        run.append(rows(run.open(1200), 0, 90, other));
      }
      for (int at = 90; at < 1199; at += 19) {
        // The second sequence lags behind, then stands still.
        int behind = Math.min(at - 20, 500);
        Part[] parts = {row(0, at, qkv), row(1, behind, other)};
        float[][] expected = whole.step(null, parts).z();
        float[][] z = recorded.decode(parts);
        assertArrayEquals(expected[0], z[0], "context " + (at + 1));
        assertArrayEquals(expected[1], z[1], "context " + (behind + 1));
        int next = Math.min(at + 19, 1199);
        for (AttentionRun run : List.of(recorded, whole)) {
          run.append(rows(0, at + 1, next, qkv));
          run.append(rows(1, at + 1, next, other));
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    ModelConfig config = AttentionRun.config(6, 2, 64, 150);
    ModelConfig wide = AttentionRun.config(6, 2, 128, 0);
    int[] contexts = {40, 300, 500};
    for (ModelConfig shape : List.of(config, wide)) {
      TestDevices.assertSchedulesAgree(
          device -> {
            try (AttentionRun run = open(device, shape, true, 500, 3);
                SteeringTable steering = new SteeringTable(device, edits(shape), 6)) {
              for (int i = 0; i < contexts.length; i++) {
                float[][] qkv = AttentionRun.random(shape, DType.BF16, contexts[i], i);
                run.append(rows(run.open(contexts[i]), 0, contexts[i] - 1, qkv));
              }
              return AttentionRun.concatenate(
                  run.step(null, lastRows(shape, contexts, 0)).all(),
                  run.step(steering, lastRows(shape, contexts, 1)).all(),
                  run.step(steering, lastRows(shape, contexts, 2)).all());
            }
          });
    }
  }
}
