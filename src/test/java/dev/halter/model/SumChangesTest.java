package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernel {@code sum_changes}. */
class SumChangesTest {
  private static final int PAGE = KvCache.PAGE;
  private static final int STRIDE = 37;
  private static final int COLUMNS = 3;
  private static final int PAGES = 8;

  /** {at, count} of each column of a slot: nothing, one square, as many as there are heads. */
  private static final int[] PARTS = {
    0, 0, 0, 0, 0, 0, // slot 0
    2, 1, 5, 32, 0, 0,
    4, 1, 0, 0, 1, 2
  };

  private static final int[] TABLE = {3, 1, 6, 0, 5, 2}; // of two sequences, three pages each

  /** Tokens of one sequence in a step. */
  private record Span(int sequence, int position, int length) {}

  private static int slot(Span span, int i) {
    int position = span.position + i;
    return span.sequence == 1 && position >= PAGE && position < 2 * PAGE ? 0 : position % 3;
  }

  /** What a token's row reports, whatever step it is in. */
  private static float[] report(Span span, int i) {
    float[] values = Values.random(DType.F32, STRIDE, 1000 * span.sequence + span.position + i);
    for (int j = 0; j < STRIDE; j++) {
      values[j] *= values[j];
    }
    return values;
  }

  /** The sums after steps, which begin as 7 everywhere. */
  private static double[] run(Device device, int block, Span[]... steps) {
    double[] sums = new double[PAGES * COLUMNS];
    Arrays.fill(sums, 7);
    try (Buffer all = device.allocate(8L * sums.length);
        Buffer table = Values.buffer(device, TABLE);
        Buffer parts = Values.buffer(device, PARTS)) {
      all.copyFrom(MemorySegment.ofArray(sums));
      for (Span[] spans : steps) {
        int rows = Arrays.stream(spans).mapToInt(Span::length).sum();
        float[] changes = new float[rows * STRIDE];
        int[] slots = new int[rows];
        int[] sequences = new int[rows];
        int[] positions = new int[rows];
        int row = 0;
        for (Span span : spans) {
          for (int i = 0; i < span.length; i++, row++) {
            slots[row] = slot(span, i);
            sequences[row] = span.sequence;
            positions[row] = span.position + i;
            System.arraycopy(report(span, i), 0, changes, row * STRIDE, STRIDE);
          }
        }
        try (Buffer reports = Values.buffer(device, DType.F32, changes);
            Buffer slotOf = Values.buffer(device, slots);
            Buffer sequenceOf = Values.buffer(device, sequences);
            Buffer positionOf = Values.buffer(device, positions)) {
          device.launch(
              device.kernel("sum_changes"),
              Grid.of(rows),
              block,
              0,
              all,
              reports,
              STRIDE,
              slotOf,
              sequenceOf,
              positionOf,
              table,
              3,
              parts,
              COLUMNS,
              rows);
          device.synchronize();
        }
      }
      all.copyTo(MemorySegment.ofArray(sums));
    }
    return sums;
  }

  private static Span[] step(Span... spans) {
    return spans;
  }

  private static double[] whole(Device device, int block) {
    return run(device, block, step(new Span(0, 0, 140), new Span(1, 0, 3 * PAGE)));
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void aPageHasTheNormsOfItsTokens(Device device) {
    double[] expected = new double[PAGES * COLUMNS];
    Arrays.fill(expected, 7); // pages of no sequence, and those where no row has a slot
    for (Span span : step(new Span(0, 0, 140), new Span(1, 0, 3 * PAGE))) {
      for (int i = 0; i < span.length; i++) {
        int page = TABLE[3 * span.sequence + i / PAGE];
        for (int c = 0; c < COLUMNS; c++) {
          int at = PARTS[2 * (COLUMNS * slot(span, i) + c)];
          int count = PARTS[2 * (COLUMNS * slot(span, i) + c) + 1];
          double squares = 0;
          for (int j = 0; j < count; j++) {
            squares += report(span, i)[at + j];
          }
          int to = page * COLUMNS + c;
          boolean untouched = span.sequence == 1 && i / PAGE == 1;
          expected[to] = untouched ? 7 : (i % PAGE == 0 ? 0 : expected[to]) + Math.sqrt(squares);
        }
      }
    }
    double[] sums = whole(device, 128);
    for (int i = 0; i < sums.length; i++) {
      assertEquals(expected[i], sums[i], 1e-12 * expected[i], "place " + i);
    }
  }

  /** Other steps, other neighbours and other blocks give the same bits. */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void howAPromptIsCutMakesNoDifference(Device device) {
    double[] expected = whole(device, 128);
    assertArrayEquals(expected, whole(device, 32));
    assertArrayEquals(
        expected,
        run(
            device,
            64,
            step(new Span(1, 0, 2), new Span(0, 0, 33)),
            step(new Span(0, 33, 1)),
            step(new Span(0, 34, 70), new Span(1, 2, 125)),
            step(new Span(1, 127, 65)),
            step(new Span(0, 104, 36))));
  }

  @Test
  void schedulesAgreeBitByBit() {
    TestDevices.assertSchedulesAgree(
        device -> {
          double[] sums = whole(device, 128);
          float[] halves = new float[2 * sums.length];
          MemorySegment.ofArray(halves).copyFrom(MemorySegment.ofArray(sums));
          return halves;
        });
  }

  /** With enough to sum that an order other than the tokens' would show. */
  @Test
  void theOrderIsThatOfTheTokens() {
    try (Device device = CpuDevice.open(1)) {
      Span span = new Span(0, 0, PAGE);
      double inOrder = 0;
      double backwards = 0;
      for (int i = 0; i < PAGE; i++) {
        inOrder += norm(span, i);
        backwards += norm(span, PAGE - 1 - i);
      }
      assertEquals(inOrder, run(device, 32, step(span))[TABLE[0] * COLUMNS]);
      assertEquals(false, inOrder == backwards, "numbers that any order sums alike");
    }
  }

  private static double norm(Span span, int i) {
    int slot = slot(span, i);
    return slot == 0 ? 0 : Math.sqrt(report(span, i)[PARTS[2 * COLUMNS * slot]]);
  }
}
