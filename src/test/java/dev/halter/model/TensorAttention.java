package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A tensor-core form against double arithmetic and against the portable kernel: on the GPU where
 * tests have one, and else the text of its kernels on faithful blocks, with their instructions done
 * in software.
 */
abstract class TensorAttention {
  /** Weights are rounded to bf16, and so is z: two roundings of values around 1. */
  static final double TOLERANCE = 0.02;

  static Stream<Device> devices() {
    return TestCuda.REAL
        ? Stream.of(TestCuda.open())
        : Arrays.stream(Schedule.values()).map(schedule -> CpuDevice.openFaithful(schedule, 1));
  }

  /** The form that is tested. */
  abstract Attention.Form form(Device device, ModelConfig config);

  /** What to fall back to if its check fails. */
  abstract String insteadOfIt();

  AttentionRun open(Device device, ModelConfig config, int rows, int sequences) {
    assertTrue(Attention.Form.fitsSm80(config, DType.BF16));
    return new AttentionRun(device, DType.BF16, config, form(device, config), rows, sequences);
  }

  @ParameterizedTest
  @MethodSource("devices")
  void agreesWithDoubleArithmeticAndThePortableKernel(Device device) {
    int[] lengths = {1, 15, 17, 63, 64, 65, 130};
    int rows = Arrays.stream(lengths).sum();
    int[][] shapes = {{2, 2, 64, 0}, {7, 1, 64, 40}, {4, 1, 128, 0}, {3, 1, 128, 64}};
    for (int[] shape : shapes) {
      ModelConfig config = AttentionRun.config(shape[0], shape[1], shape[2], shape[3]);
      try (AttentionRun tensor = open(device, config, rows, lengths.length);
          AttentionRun portable =
              new AttentionRun(device, DType.BF16, config, rows, lengths.length)) {
        Step step = tensor.step(null, parts(tensor, lengths));
        Step other = portable.step(null, parts(portable, lengths));
        int first = 0;
        for (int length : lengths) {
          List<float[]> rotated = Arrays.asList(step.rotated()).subList(first, first + length);
          for (int row = 0; row < length; row++) {
            double[] expected = AttentionRun.expected(config, rotated, row);
            for (int i = 0; i < expected.length; i++) {
              assertEquals(expected[i], step.z()[first + row][i], TOLERANCE);
              assertEquals(other.z()[first + row][i], step.z()[first + row][i], TOLERANCE);
            }
          }
          first += length;
        }
      }
    }
  }

  static Part[] parts(AttentionRun run, int[] lengths) {
    return IntStream.range(0, lengths.length)
        .mapToObj(
            i ->
                new Part(
                    run.open(lengths[i]),
                    0,
                    AttentionRun.random(run.config, DType.BF16, lengths[i], i)))
        .toArray(Part[]::new);
  }

  @ParameterizedTest
  @MethodSource("devices")
  void scalesTheListedHeadsOfSteeredRowsAndReportsTheChange(Device device) {
    ModelConfig config = AttentionRun.config(3, 1, 64, 0);
    try (AttentionRun run = open(device, config, 40, 2);
        SteeringTable steering = new SteeringTable(device, List.of(scaleHeads(0.5f, 0, 2)), 3)) {
      float[][] qkv = AttentionRun.random(config, DType.BF16, 40, 5);
      int[] slots = IntStream.range(0, 40).map(row -> row % 3 == 0 ? 1 : 0).toArray();
      Step plain = run.step(null, new Part(run.open(40), 0, qkv));
      Step steered = run.step(steering, new Part(run.open(40), 0, qkv, slots));
      for (int row = 0; row < 40; row++) {
        float[] before = plain.z()[row];
        float[] after = steered.z()[row];
        if (slots[row] == 0) {
          assertArrayEquals(before, after, "row " + row + " has slot 0");
          continue;
        }
        assertFalse(Arrays.equals(before, after));
        for (int head = 0; head < 3; head++) {
          double change = 0;
          for (int i = head * 64; i < head * 64 + 64; i++) {
            assertEquals(head == 1 ? before[i] : before[i] * 0.5f, after[i]);
            change += Math.pow(after[i] - before[i], 2);
          }
          float report = steered.changes()[row * steering.reportStride() + head];
          assertEquals(change, report, 0.02 * change);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void mapsTheListedHeadsOfSteeredRowsAndReportsTheChange(Device device) {
    for (int dHead : new int[] {64, 128}) {
      ModelConfig config = AttentionRun.config(6, 2, dHead, 0);
      Edit.HeadAffine maps = AttentionRun.maps(config, dHead, 5, 0, 2);
      try (AttentionRun run = open(device, config, 40, 2);
          SteeringTable steering = new SteeringTable(device, List.of(List.of(maps)), 6)) {
        float[][] qkv = AttentionRun.random(config, DType.BF16, 40, 5);
        int[] slots = IntStream.range(0, 40).map(row -> row % 3 == 0 ? 1 : 0).toArray();
        Step plain = run.step(null, new Part(run.open(40), 0, qkv));
        Step steered = run.step(steering, new Part(run.open(40), 0, qkv, slots));
        for (int row = 0; row < 40; row++) {
          float[] before = plain.z()[row];
          float[] after = steered.z()[row];
          if (slots[row] == 0) {
            assertArrayEquals(before, after, "row " + row + " has slot 0");
            continue;
          }
          assertFalse(Arrays.equals(before, after));
          // z is bf16, and maps see it before it is rounded.
          int report = row * steering.reportStride();
          AttentionRun.assertMapped(maps, before, after, steered.changes(), report, 0.05);
        }
      }
    }
  }

  static List<Edit> scaleHeads(float scale, int... heads) {
    return List.of(new Edit.Heads(new Site(Site.Kind.Z, 0), heads, scale));
  }

  @Test
  void schedulesAgreeBitByBit() {
    ModelConfig config = AttentionRun.config(5, 1, 64, 50);
    TestDevices.assertSchedulesAgree(
        device -> {
          try (AttentionRun run = open(device, config, 90, 1);
              SteeringTable steering =
                  new SteeringTable(device, List.of(scaleHeads(-2, 0, 3)), 5)) {
            float[][] qkv = AttentionRun.random(config, DType.BF16, 90, 9);
            int[] slots = IntStream.range(0, 90).map(row -> row & 1).toArray();
            return run.step(steering, new Part(run.open(90), 0, qkv, slots)).all();
          }
        });
  }

  @ParameterizedTest
  @MethodSource("devices")
  void theCheckBeforeItsFirstUsePassesAndNoticesAnotherResult(Device device) {
    for (int dHead : new int[] {64, 128}) {
      ModelConfig config = AttentionRun.config(4, 1, dHead, 0);
      Attention.Form form = form(device, config);
      Attention.Form portable = Attention.Form.portable(config, DType.BF16);
      float[] expected = AttentionCheck.z(device, config, DType.BF16, portable);
      float[] found = AttentionCheck.z(device, config, DType.BF16, form);
      AttentionCheck.compare(device, form, expected, found);
      for (float wrong : new float[] {found[7] + 0.1f, Float.NaN}) {
        float[] other = found.clone();
        other[7] = wrong;
        var error =
            assertThrows(
                DeviceException.class, () -> AttentionCheck.compare(device, form, expected, other));
        assertTrue(error.getMessage().contains("-Dhalter.attention=" + insteadOfIt()));
      }
    }
  }
}
