package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.OutOfDeviceMemoryException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Collections;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class CpuDeviceTest {
  private Device device;

  @BeforeEach
  void open() {
    device = CpuDevice.open(2);
  }

  @AfterEach
  void close() {
    device.close();
  }

  private Buffer buffer(float... values) {
    Buffer buffer = device.allocate(4L * values.length);
    buffer.set(values);
    return buffer;
  }

  @Test
  void kernelRunsOverAllBlocksOfAGrid() {
    int n = 100_003;
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = i % 251 - 125;
    }
    Buffer narrow = device.allocate(2L * n);
    Buffer wide = device.allocate(4L * n);
    device.launch(
        device.kernel("convert_f32_bf16"), Grid.of(97), 256, 0, narrow, buffer(values), (long) n);
    device.launch(device.kernel("convert_bf16_f32"), Grid.of(5), 64, 0, wide, narrow, (long) n);
    assertArrayEquals(values, wide.toFloats(n)); // small integers are bf16 numbers
  }

  @Test
  void wrongArgumentsAreNamed() {
    Kernel kernel = device.kernel("convert_f32_bf16");
    Buffer x = buffer(1, 2);
    IllegalArgumentException tooFew =
        assertThrows(
            IllegalArgumentException.class, () -> device.launch(kernel, Grid.of(1), 32, 0, x, x));
    assertTrue(tooFew.getMessage().contains("takes 3 arguments, not 2"), tooFew.getMessage());
    IllegalArgumentException wrongSize =
        assertThrows(
            IllegalArgumentException.class,
            () -> device.launch(kernel, Grid.of(1), 32, 0, x, x, 2));
    assertTrue(wrongSize.getMessage().contains("argument 2"), wrongSize.getMessage());
  }

  @Test
  void unknownKernelListsTheKnownOnes() {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> device.kernel("rmsnorm_f23"));
    assertTrue(e.getMessage().contains("rmsnorm_f23"), e.getMessage());
    assertTrue(e.getMessage().contains("convert_f32_bf16"), e.getMessage());
  }

  @Test
  void launchThatNoGpuCouldDoIsRefused() {
    Kernel kernel = device.kernel("convert_f32_bf16");
    Buffer x = buffer(1, 2);
    for (int block : new int[] {0, 1, 33, 2048}) {
      DeviceException e =
          assertThrows(
              DeviceException.class, () -> device.launch(kernel, Grid.of(1), block, 0, x, x, 2L));
      assertTrue(e.getMessage().contains("convert_f32_bf16"), e.getMessage());
    }
    assertThrows(
        DeviceException.class, () -> device.launch(kernel, Grid.of(1), 32, 1 << 20, x, x, 2L));
  }

  @Test
  void uploadIsTheSameMemory() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment host = arena.allocateFrom(java.lang.foreign.ValueLayout.JAVA_FLOAT, 1, 2, 3);
      Buffer first = device.upload(host);
      Buffer second = device.upload(host);
      assertEquals(host.address(), first.address());
      first.close();
      assertArrayEquals(new float[] {1, 2, 3}, second.toFloats(3));
      second.close();
      assertThrows(DeviceException.class, () -> second.toFloats(3));
    }
  }

  @Test
  void allocationsAreAligned() {
    for (int bytes : new int[] {0, 1, 255, 256, 257, 100_000}) {
      assertEquals(0, device.allocate(bytes).address() % 256);
    }
  }

  @Test
  void copiesReachExactlyTheirRange() {
    Buffer x = buffer(1, 2, 3, 4);
    x.slice(4, 8).copyFrom(buffer(8, 9));
    assertArrayEquals(new float[] {1, 8, 9, 4}, x.toFloats(4));
    x.slice(8).clear();
    assertArrayEquals(new float[] {1, 8, 0, 0}, x.toFloats(4));
    assertThrows(IndexOutOfBoundsException.class, () -> x.slice(12).copyFrom(buffer(1, 2)));
    assertThrows(IndexOutOfBoundsException.class, () -> x.toFloats(5));
  }

  @Test
  void closedBufferCannotBeUsedOrFreedAgain() {
    Buffer x = buffer(1);
    x.close();
    assertThrows(DeviceException.class, () -> x.toFloats(1));
    HostMemory memory = new HostMemory(false);
    long address = memory.allocate(4);
    memory.free(address);
    assertThrows(DeviceException.class, () -> memory.free(address));
  }

  @Test
  void moreMemoryThanThereIsGivesAClearError() {
    OutOfDeviceMemoryException e =
        assertThrows(OutOfDeviceMemoryException.class, () -> device.allocate(1L << 50));
    assertTrue(e.getMessage().contains("1,125,899,906,842,624"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> device.allocate(-1));
  }

  @Test
  void memoryIsThatOfTheMachine() {
    Device.Memory memory = device.memory();
    assertTrue(memory.free() > 0 && memory.free() <= memory.total(), memory.toString());
  }

  @Test
  void recordedWorkRunsAtEachLaunchAndNotBefore() {
    Buffer x = buffer(1, 2);
    Buffer y = buffer(0, 0);
    var graph = device.record(() -> y.copyFrom(x));
    assertArrayEquals(new float[] {0, 0}, y.toFloats(2));
    graph.launch();
    assertArrayEquals(new float[] {1, 2}, y.toFloats(2));
    x.set(3f, 4f);
    graph.launch();
    assertArrayEquals(new float[] {3, 4}, y.toFloats(2));
  }

  @Test
  void productMultipliesByTheTranspose() {
    Buffer x = buffer(1, 2, 3, 4, 5, 6); // 2 x 3
    Buffer w = buffer(1, 0, 0, 1, 1, 1); // 2 x 3
    Buffer out = buffer(0, 0, 0, 0, 0, 0); // 2 x 2 in rows of 3
    device.multiply(
        2,
        2,
        3,
        new Matrix(x, DType.F32, 3),
        new Matrix(w, DType.F32, 3),
        new Matrix(out, DType.F32, 3));
    assertArrayEquals(new float[] {1, 6, 0, 4, 15, 0}, out.toFloats(6));
  }

  @Test
  void productThatDoesNotFitItsBuffersIsRefused() {
    Matrix x = new Matrix(buffer(1, 2, 3, 4, 5, 6), DType.F32, 3);
    Matrix out = new Matrix(buffer(0, 0, 0, 0), DType.F32, 2);
    device.multiply(2, 2, 3, x, x, out);
    for (int[] mnk : new int[][] {{3, 2, 3}, {2, 3, 3}, {2, 2, 4}, {0, 2, 3}, {2, 2, -3}}) {
      assertThrows(
          IllegalArgumentException.class,
          () -> device.multiply(mnk[0], mnk[1], mnk[2], x, x, out),
          Arrays.toString(mnk));
    }
    Matrix halves = new Matrix(x.buffer(), DType.I16, 3);
    assertThrows(DeviceException.class, () -> device.multiply(2, 2, 3, halves, x, out));
  }

  @Test
  void devicesOfManyThreadsShareTheHelpers() throws InterruptedException, ExecutionException {
    int n = 50_000;
    Callable<Boolean> work =
        () -> {
          try (Device own = CpuDevice.open(3)) {
            Kernel narrowing = own.kernel("convert_f32_bf16");
            Kernel widening = own.kernel("convert_bf16_f32");
            Buffer values = own.allocate(4L * n);
            Buffer narrow = own.allocate(2L * n);
            for (int round = 0; round < 100; round++) {
              float[] expected = new float[n];
              for (int i = 0; i < n; i++) {
                expected[i] = (i + round) % 251 - 125;
              }
              values.set(expected);
              own.launch(narrowing, Grid.of(97), 256, 0, narrow, values, (long) n);
              values.clear();
              own.launch(widening, Grid.of(1 + round), 64, 0, values, narrow, (long) n);
              assertArrayEquals(expected, values.toFloats(n));
            }
            return true;
          }
        };
    try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
      for (Future<Boolean> done : threads.invokeAll(Collections.nCopies(4, work))) {
        assertTrue(done.get());
      }
    }
  }

  @Test
  void closedDeviceRefusesWork() {
    Buffer x = buffer(1);
    device.close();
    assertThrows(IllegalStateException.class, () -> device.allocate(1));
    assertThrows(IllegalStateException.class, () -> x.toFloats(1));
    x.close();
  }
}
