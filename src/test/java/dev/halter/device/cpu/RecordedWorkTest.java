package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Top;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Work that native code does again is what its calls did, and what it cannot do is not lost. */
class RecordedWorkTest {
  private static final int ROWS = 5;
  private static final int N = 40;
  private static final int K = 24;
  private static final int KEPT = 3;

  static Stream<Device> devices() {
    return Stream.of(
        CpuDevice.open(2), CpuDevice.openFaithful(Schedule.RANDOM, 7)); // JUnit closes them
  }

  /** A kernel twice, a product, its best entries, a copy and a clearing. */
  private static final class Work {
    final Device device;
    final Buffer x;
    final Buffer narrow;
    final Buffer w;
    final Buffer out;
    final Buffer copied;
    final Buffer ids;
    final Buffer values;
    final Buffer logSum;

    Work(Scope scope) {
      device = scope.device();
      x = scope.of(numbers(1, ROWS * K));
      w = scope.of(numbers(2, N * K));
      narrow = scope.of(new float[ROWS * K]);
      out = scope.of(new float[ROWS * N]);
      copied = scope.of(new float[ROWS * N + 1]);
      ids = scope.of(new int[ROWS * KEPT]);
      values = scope.of(new float[ROWS * KEPT]);
      logSum = scope.of(new float[2 * ROWS]);
    }

    void run() {
      Matrix rows = new Matrix(x, DType.F32, K);
      Matrix columns = new Matrix(w, DType.F32, K);
      device.multiply(ROWS, N, K, rows, columns, new Matrix(out, DType.F32, N));
      device.multiplyTop(
          ROWS, N, K, rows, columns, new Top(Top.Sign.PLUS, KEPT, ids, values, logSum));
      Kernel convert = device.kernel("convert_f32_bf16");
      long half = ROWS * K / 2;
      device.launch(convert, Grid.of(2), 32, 0, narrow, x, half);
      device.launch(
          convert, Grid.of(3), 64, 0, narrow.slice(2 * half), x.slice(4 * half), ROWS * K - half);
      copied.slice(0, out.bytes()).copyFrom(out);
      copied.slice(4 * N, 4 * N).clear();
    }

    float[] results() {
      float[] all = new float[4 * ROWS * N + 1];
      int at = 0;
      for (Buffer buffer : new Buffer[] {out, copied, values, logSum}) {
        int count = (int) (buffer.bytes() / 4);
        System.arraycopy(buffer.toFloats(count), 0, all, at, count);
        at += count;
      }
      for (int bits : narrow.toInts(ROWS * K / 2)) {
        all[at++] = bits;
      }
      for (int id : ids.toInts(ROWS * KEPT)) {
        all[at++] = id;
      }
      return all;
    }
  }

  private static float[] numbers(int seed, int count) {
    float[] numbers = new float[count];
    Random random = new Random(seed);
    for (int i = 0; i < count; i++) {
      numbers[i] = random.nextFloat() - 0.5f;
    }
    return numbers;
  }

  @ParameterizedTest
  @MethodSource("devices")
  void replayIsTheCallsAgainOnWhatMemoryHoldsThen(Device device) {
    try (Scope scope = device.scope()) {
      Work direct = new Work(scope);
      direct.run();
      float[] expected = direct.results();
      direct.x.set(numbers(3, ROWS * K));
      direct.run();
      float[] expectedOfOthers = direct.results();
      assertFalse(Arrays.equals(expected, expectedOfOthers));

      Work recorded = new Work(scope);
      float[] before = recorded.results();
      assertFalse(Arrays.equals(before, expected));
      try (Graph graph = device.record(recorded::run)) {
        assertArrayEquals(before, recorded.results(), "nothing has run");
        graph.launch();
        assertArrayEquals(expected, recorded.results());
        recorded.x.set(numbers(3, ROWS * K));
        graph.launch();
        assertArrayEquals(expectedOfOthers, recorded.results());
        direct.run(); // its kernels have other arguments now
        recorded.x.set(numbers(1, ROWS * K));
        graph.launch();
        assertArrayEquals(expected, recorded.results());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void workThatTheHostLooksIntoIsRunAgain(Device device) {
    try (Scope scope = device.scope()) {
      Buffer x = scope.of(1f, 2f);
      Buffer y = scope.of(0f, 0f);
      int[] runs = {0};
      Runnable work =
          () -> {
            y.clear();
            if (x.toFloats(1)[0] > 2) {
              y.copyFrom(x);
            }
            runs[0]++;
          };
      try (Graph graph = device.record(work)) {
        assertEquals(0, runs[0]);
        graph.launch();
        assertArrayEquals(new float[] {0, 0}, y.toFloats(2));
        x.set(3f, 4f);
        graph.launch();
        assertArrayEquals(new float[] {3, 4}, y.toFloats(2));
        assertEquals(2, runs[0]);
      }
      try (Graph graph = device.record(() -> device.allocate(4).close())) {
        graph.launch();
      }
      y.set(5f, 6f);
      assertArrayEquals(new float[] {5, 6}, y.toFloats(2), "nothing is recorded any more");
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void callThatFailsIsReportedAndThoseBehindItAreNotMade(Device device) {
    try (Scope scope = device.scope()) {
      Buffer x = scope.of(1f, 2f);
      Buffer y = scope.of(0f, 0f);
      Kernel kernel = device.kernel("convert_f32_bf16");
      try (Graph graph =
          device.record(
              () -> {
                device.launch(kernel, Grid.of(1), 33, 0, y, x, 2L);
                y.copyFrom(x);
              })) {
        DeviceException e = assertThrows(DeviceException.class, graph::launch);
        assertTrue(e.getMessage().contains("convert_f32_bf16"), e.getMessage());
        assertArrayEquals(new float[] {0, 0}, y.toFloats(2));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void graphsDoNotNestAndEndWhenTheyAreClosed(Device device) {
    Graph graph = device.record(() -> {});
    graph.launch();
    assertThrows(IllegalStateException.class, () -> device.record(() -> device.record(() -> {})));
    assertThrows(IllegalStateException.class, () -> device.record(graph::launch));
    assertThrows(
        UnsupportedOperationException.class,
        () ->
            device.record(
                () -> {
                  throw new UnsupportedOperationException();
                }));
    graph.launch();
    graph.close();
    graph.close();
    assertThrows(IllegalStateException.class, graph::launch);
    Graph other = device.record(() -> {});
    device.close();
    assertThrows(IllegalStateException.class, other::launch);
    other.close();
  }

  @Test
  void testBuildRefusesAGraphWhoseMemoryIsGone() {
    try (Device device = CpuDevice.openFaithful(Schedule.FORWARD, 0)) {
      Buffer x = device.allocate(8);
      Buffer y = device.allocate(8);
      x.set(1f, 2f);
      Kernel kernel = device.kernel("convert_f32_bf16");
      try (Graph graph = device.record(() -> device.launch(kernel, Grid.of(1), 32, 0, y, x, 2L))) {
        graph.launch();
        x.close();
        assertThrows(DeviceException.class, graph::launch);
      }
      y.close();
    }
  }
}
