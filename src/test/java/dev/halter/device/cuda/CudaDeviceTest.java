package dev.halter.device.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Arrival;
import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.HostCopy;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.OutOfDeviceMemoryException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import jcuda.driver.CUcontext;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What holds of a CUDA device on a GPU and on the stand-in alike. */
class CudaDeviceTest {
  private Device device;

  @BeforeEach
  void open() {
    device = TestCuda.open();
  }

  @AfterEach
  void close() {
    device.close();
  }

  @Test
  void saysWhichCardDriverAndCublas() {
    assertEquals("cuda", device.kind());
    assertTrue(device.description().matches(".+ \\(sm_\\d+\\)"), device.description());
    assertTrue(
        device.details().get(0).matches("CUDA driver \\d+\\.\\d"), device.details().toString());
    assertTrue(
        device.details().get(1).matches("cuBLAS 1[23]\\.\\d+\\.\\d+ from .+"),
        device.details().toString());
  }

  @Test
  void partsAreCopiedOneBehindAnother() {
    int[] lengths = {1, 4096, 3, 0, Staging.HALF / 4 - 7, 5, Staging.HALF / 2, 1};
    float[] expected = new float[IntStream.of(lengths).sum()];
    List<MemorySegment> parts = new ArrayList<>();
    int end = 0;
    for (int length : lengths) {
      for (int i = end; i < end + length; i++) {
        expected[i] = i % 8191;
      }
      parts.add(MemorySegment.ofArray(Arrays.copyOfRange(expected, end, end + length)));
      end += length;
    }
    try (Buffer buffer = device.allocate(4L * end)) {
      buffer.set(1f); // so that the half is not empty
      buffer.copyFrom(parts);
      assertArrayEquals(expected, buffer.toFloats(end));
    }
  }

  @ParameterizedTest
  @ValueSource(
      ints = {
        1,
        255,
        257,
        Downloads.PIECE,
        Downloads.PIECE + 1,
        Staging.HALF - 1,
        Staging.HALF + 1,
        5 * Staging.HALF + 3
      })
  void copiesAnyNumberOfBytesThereAndBack(int bytes) {
    byte[] expected = new byte[bytes];
    new Random(bytes).nextBytes(expected);
    byte[] uploaded = new byte[bytes];
    byte[] copied = new byte[bytes];
    try (Buffer upload = device.upload(MemorySegment.ofArray(expected));
        Buffer copy = device.allocate(bytes)) {
      upload.copyTo(MemorySegment.ofArray(uploaded)); // waits for another stream
      copy.copyFrom(MemorySegment.ofArray(expected));
      copy.copyTo(MemorySegment.ofArray(copied));
    }
    assertArrayEquals(expected, uploaded);
    assertArrayEquals(expected, copied);
  }

  /** Four and a bit pieces, whose values are their places. */
  private static final int MANY = Downloads.PIECE + 77;

  private Buffer counted() {
    Buffer buffer = device.allocate(4L * MANY);
    buffer.copyFrom(MemorySegment.ofArray(IntStream.range(0, MANY).toArray()));
    return buffer;
  }

  @Test
  void rangesAreSentToWhereTheyBelong() {
    int piece = Downloads.PIECE / 4;
    // Within a piece, up to a border, over one, over two, from one on, to the end; and gaps.
    int[] from = {1, 100, piece - 1, piece + 9, 3 * piece + 9, 4 * piece, MANY - 1};
    int[] to = {2, piece - 1, piece + 8, 3 * piece + 1, 4 * piece, 4 * piece + 70, MANY};
    try (Buffer buffer = counted()) {
      List<HostCopy> copies = new ArrayList<>();
      List<int[]> values = new ArrayList<>();
      for (int i = 0; i < from.length; i++) {
        values.add(new int[to[i] - from[i]]);
        copies.add(HostCopy.over(MemorySegment.ofArray(values.get(i)), 4L * from[i]));
      }
      copies.add(3, new HostCopy(4L * (piece + 8), 4, () -> null)); // nobody wants it
      buffer.send(copies).await();
      for (int i = 0; i < from.length; i++) {
        assertArrayEquals(IntStream.range(from[i], to[i]).toArray(), values.get(i));
      }
      int[] few = new int[2]; // at once
      buffer
          .send(
              List.of(
                  HostCopy.over(MemorySegment.ofArray(few).asSlice(0, 4), 4 * 5),
                  HostCopy.over(MemorySegment.ofArray(few).asSlice(4, 4), 4 * 8)))
          .await();
      assertArrayEquals(new int[] {5, 8}, few);
      List<HostCopy> beyond =
          List.of(HostCopy.over(MemorySegment.ofArray(few), buffer.bytes() - 4));
      assertThrows(IndexOutOfBoundsException.class, () -> buffer.send(beyond));
    }
  }

  @Test
  void whatIsSentIsWhatWorkBeforeLeavesAndWorkBehindGoesOn() {
    try (Buffer values = counted();
        Buffer first = device.allocate(values.bytes());
        Buffer second = device.allocate(values.bytes());
        Gather gather = new Gather()) {
      gather.index.set(2, 0);
      int[][] come = new int[4][MANY];
      int part = MANY / come.length;
      List<Arrival> arrivals = new ArrayList<>();
      for (int i = 0; i < come.length; i++) { // in turns, as a ring
        Buffer buffer = i % 2 == 0 ? first : second;
        if (i > 1) {
          arrivals.get(i - 2).await();
        }
        buffer.copyFrom(values);
        buffer.slice(4L * i * part, 4L * part).clear();
        arrivals.add(buffer.send(List.of(HostCopy.over(MemorySegment.ofArray(come[i]), 0))));
        gather.launch();
      }
      assertArrayEquals(new float[] {6, 7, 8, 0, 1, 2}, gather.out.toFloats(6));
      arrivals.forEach(Arrival::await);
      arrivals.forEach(Arrival::await);
      for (int i = 0; i < come.length; i++) {
        int[] expected = IntStream.range(0, MANY).toArray();
        Arrays.fill(expected, i * part, (i + 1) * part, 0);
        assertArrayEquals(expected, come[i], "" + i);
      }
    }
  }

  @Test
  void whereValuesCannotGoCostsTheirArrivalAlone() {
    try (Buffer buffer = counted()) {
      int[] good = new int[MANY];
      List<HostCopy> lost =
          List.of(
              new HostCopy(
                  0,
                  buffer.bytes(),
                  () -> {
                    throw new IllegalStateException("no room");
                  }));
      Arrival before = buffer.send(lost);
      Arrival after = buffer.send(List.of(HostCopy.over(MemorySegment.ofArray(good), 0)));
      for (int i = 0; i < 2; i++) {
        String failure = assertThrows(DeviceException.class, before::await).getMessage();
        assertEquals("copying to the host: java.lang.IllegalStateException: no room", failure);
      }
      after.await();
      assertArrayEquals(IntStream.range(0, MANY).toArray(), good);
    }
  }

  @Test
  void whatNobodyAwaitsHindersNeitherFreeingNorClosing() {
    Buffer buffer = counted();
    int[] values = new int[MANY];
    buffer.send(List.of(HostCopy.over(MemorySegment.ofArray(values), 0)));
    buffer.close();
    assertArrayEquals(IntStream.range(0, MANY).toArray(), values);
    counted().send(List.of(HostCopy.over(MemorySegment.ofArray(new int[MANY]), 0)));
    device.close();
  }

  @Test
  void copiesManySmallPiecesBehindWhatIsStillQueued() {
    int rows = 20_000; // of 2 KiB: more than both halves of the staging memory
    try (Buffer table = device.allocate(512 * 4);
        Buffer out = device.allocate(rows * 4L)) {
      for (int i = 0; i < rows; i++) {
        int[] values = new int[512];
        values[511] = i;
        table.set(values);
        out.slice(4L * i, 4).copyFrom(table.slice(4 * 511, 4));
      }
      int[] actual = out.toInts(rows);
      for (int i = 0; i < rows; i++) {
        assertEquals(i, actual[i]);
      }
    }
  }

  @Test
  void theHostMemoryOfACopyMayBeReusedAtOnce() {
    try (Arena arena = Arena.ofConfined();
        Buffer buffer = device.allocate(4096)) {
      MemorySegment host = arena.allocate(4096);
      host.fill((byte) 1);
      buffer.copyFrom(host);
      host.fill((byte) 2);
      assertEquals(0x01010101, buffer.toInts(1)[0]);
    }
  }

  @Test
  void clearsAndCopiesWithinTheDevice() {
    try (Buffer a = device.allocate(16);
        Buffer b = device.allocate(16)) {
      a.set(1, 2, 3, 4);
      b.clear();
      b.slice(4, 8).copyFrom(a.slice(8, 8));
      assertArrayEquals(new int[] {0, 3, 4, 0}, b.toInts(4));
    }
  }

  @Test
  void launchesAKernelOnItsGrid() {
    try (Gather gather = new Gather()) {
      gather.index.set(2, 0);
      gather.launch();
      assertArrayEquals(new float[] {6, 7, 8, 0, 1, 2}, gather.out.toFloats(6));
    }
  }

  @Test
  void aKernelMayHaveMoreSharedMemoryThanItIsGivenUnasked() {
    try (Gather gather = new Gather()) {
      gather.index.set(1, 1);
      device.launch(
          gather.kernel, Grid.of(2), 32, 64 * 1024, gather.out, gather.x, gather.index, 3);
      assertArrayEquals(new float[] {3, 4, 5, 3, 4, 5}, gather.out.toFloats(6));
    }
  }

  @Test
  void moreSharedMemoryThanTheCardHasIsAnErrorThatSaysSo() {
    try (Gather gather = new Gather()) {
      var error =
          assertThrows(
              RuntimeException.class,
              () ->
                  device.launch(
                      gather.kernel,
                      Grid.of(2),
                      32,
                      1 << 20,
                      gather.out,
                      gather.x,
                      gather.index,
                      3));
      assertTrue(error.getMessage().contains("1,048,576 bytes of shared"), error.getMessage());
    }
  }

  @Test
  void refusesArgumentsThatDoNotFitTheKernel() {
    try (Gather gather = new Gather()) {
      assertThrows(
          IllegalArgumentException.class,
          () -> device.launch(gather.kernel, Grid.of(2), 32, 0, gather.out, gather.x));
      assertThrows(
          IllegalArgumentException.class,
          () ->
              device.launch(
                  gather.kernel, Grid.of(2), 32, 0, gather.out, gather.x, gather.index, 3L));
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {0, -1, 1025})
  void refusesBlocksThatNoCardHas(int block) {
    try (Gather gather = new Gather()) {
      assertThrows(
          IllegalArgumentException.class,
          () ->
              device.launch(
                  gather.kernel, Grid.of(2), block, 0, gather.out, gather.x, gather.index, 3));
    }
  }

  @Test
  void anUnknownKernelIsAnErrorThatListsTheKnown() {
    var error = assertThrows(IllegalArgumentException.class, () -> device.kernel("no_such"));
    assertTrue(error.getMessage().contains("gather_rows"), error.getMessage());
  }

  @Test
  void aGraphRunsAtEachLaunchAndNotWhileItIsRecorded() {
    try (Gather gather = new Gather()) {
      gather.index.set(2, 2);
      gather.launch();
      gather.out.clear();
      try (Buffer last = device.allocate(24);
          Graph graph =
              device.record(
                  () -> {
                    last.copyFrom(gather.out);
                    gather.launch();
                  })) {
        assertArrayEquals(new float[6], gather.out.toFloats(6));
        graph.launch();
        assertArrayEquals(new float[] {6, 7, 8, 6, 7, 8}, gather.out.toFloats(6));
        gather.index.set(1, 0);
        graph.launch();
        assertArrayEquals(new float[] {3, 4, 5, 0, 1, 2}, gather.out.toFloats(6));
        assertArrayEquals(new float[] {6, 7, 8, 6, 7, 8}, last.toFloats(6));
      }
    }
  }

  @Test
  void aGraphHoldsProductsToo() {
    try (Product product = new Product(3, 4, 5, DType.F32, DType.F32)) {
      product.run();
      Buffer out = product.out.buffer();
      float[] expected = out.toFloats(12);
      try (Graph graph = device.record(product::run)) {
        out.clear();
        assertNotEquals(expected[0], out.toFloats(1)[0]);
        graph.launch();
        assertArrayEquals(expected, out.toFloats(12));
      }
    }
  }

  @Test
  void whatAGraphCannotHoldIsRefusedAndTheDeviceGoesOn() {
    try (Gather gather = new Gather()) {
      gather.index.set(0, 1);
      assertThrows(IllegalStateException.class, () -> device.record(() -> device.allocate(1)));
      assertThrows(IllegalStateException.class, () -> device.record(() -> gather.index.set(1, 1)));
      assertThrows(IllegalStateException.class, () -> device.record(() -> gather.out.toFloats(1)));
      assertThrows(IllegalStateException.class, () -> device.record(device::synchronize));
      assertThrows(IllegalStateException.class, () -> device.record(() -> device.record(() -> {})));
      gather.launch();
      assertArrayEquals(new float[] {0, 1, 2, 3, 4, 5}, gather.out.toFloats(6));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "1, 1, 1, F32, F32",
    "1, 257, 64, F32, F32",
    "33, 31, 255, F32, F32",
    "1, 257, 64, BF16, BF16",
    "33, 32, 256, BF16, F32",
    "7, 40, 24, BF16, BF16"
  })
  void multipliesByTheTranspose(int m, int n, int k, DType type, DType outType) {
    try (Product product = new Product(m, n, k, type, outType)) {
      product.run();
      product.check();
    }
  }

  @Test
  void refusesProductsThatItHasNot() {
    try (Buffer buffer = device.allocate(4 * 4 * 4)) {
      Matrix f32 = new Matrix(buffer, DType.F32, 4);
      Matrix bf16 = new Matrix(buffer, DType.BF16, 4);
      Matrix narrow = new Matrix(buffer, DType.F32, 3);
      assertThrows(IllegalArgumentException.class, () -> device.multiply(4, 4, 4, f32, bf16, f32));
      assertThrows(IllegalArgumentException.class, () -> device.multiply(4, 4, 4, f32, f32, bf16));
      assertThrows(IllegalArgumentException.class, () -> device.multiply(5, 4, 4, f32, f32, f32));
      assertThrows(
          IllegalArgumentException.class, () -> device.multiply(4, 4, 4, narrow, f32, f32));
      assertThrows(IllegalArgumentException.class, () -> device.multiply(0, 4, 4, f32, f32, f32));
    }
  }

  @Test
  void weightsTakeTheTypeOfTheActivations() {
    assertEquals(DType.F32, device.weightType(DType.BF16, DType.F32));
    assertEquals(DType.BF16, device.weightType(DType.F16, DType.BF16));
  }

  @Test
  void anAllocationThatDoesNotFitSaysWhatIsFree() {
    var error = assertThrows(OutOfDeviceMemoryException.class, () -> device.allocate(1L << 45));
    assertTrue(error.getMessage().contains("35,184,372,088,832"), error.getMessage());
    device.allocate(16).close();
  }

  @Test
  void aFreedBufferGivesItsMemoryBack() {
    long before = device.memory().free();
    Buffer buffer = device.allocate(256 << 20);
    assertTrue(device.memory().free() <= before - (256 << 20));
    buffer.close();
    buffer.close(); // as any AutoCloseable
    assertEquals(before, device.memory().free());
  }

  @Test
  void anotherThreadMayTakeOver() {
    try (Buffer buffer = device.allocate(4)) {
      CompletableFuture.runAsync(() -> buffer.set(42)).join();
      assertEquals(42, buffer.toInts(1)[0]);
    }
  }

  @Test
  void contextThatOthersMadeCurrentIsReplaced() {
    try (Buffer buffer = device.allocate(4);
        Graph graph = device.record(buffer::clear)) {
      buffer.set(42);
      leave();
      assertEquals(42, buffer.toInts(1)[0]);
      leave();
      graph.launch();
      leave();
      assertEquals(0, buffer.toInts(1)[0]);
      leave();
    }
    leave();
  }

  /** What code beside Halter may do between two calls. */
  private static void leave() {
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuCtxSetCurrent(new CUcontext()));
  }

  @Test
  void devicesOfOneCardComeAndGoOnSeveralThreads() {
    ExecutorService other = Executors.newSingleThreadExecutor();
    try (Buffer buffer = device.allocate(4)) {
      buffer.set(1);
      Device second = other.submit(CudaDeviceTest::openAnother).get();
      Buffer own = other.submit(() -> second.allocate(4)).get();
      other.submit(() -> own.set(2)).get();
      assertEquals(2, own.toInts(1)[0]);
      assertEquals(1, other.submit(() -> buffer.toInts(1)[0]).get());
      leave();
      other.submit(second::close).get();
      other.submit(() -> buffer.set(3)).get();
      assertEquals(3, buffer.toInts(1)[0]);
      try (Device third = openAnother()) {
        other.submit(() -> third.allocate(4).clear()).get();
      }
      assertEquals(3, other.submit(() -> buffer.toInts(1)[0]).get());
    } catch (InterruptedException | ExecutionException e) {
      throw new AssertionError(e);
    } finally {
      other.shutdown();
    }
  }

  /** Beside the device of the test, which reads the stand-in's report when it is closed. */
  private static Device openAnother() {
    return TestCuda.REAL ? CudaDevice.open(0) : TestCuda.StandIn.open();
  }

  @Test
  void closingTheDeviceFreesWhatIsStillOpen() {
    Buffer buffer = device.allocate(16);
    device.record(() -> buffer.clear());
    device.close();
    buffer.close();
    device.close();
    assertThrows(IllegalStateException.class, () -> device.allocate(1));
  }

  /** out[i] = x[index[i]], x being three rows of three: 0 to 8. */
  private final class Gather implements AutoCloseable {
    final Kernel kernel = device.kernel("gather_rows");
    final Buffer x = device.allocate(9 * 4);
    final Buffer index = device.allocate(2 * 4);
    final Buffer out = device.allocate(6 * 4);

    Gather() {
      x.set(0f, 1, 2, 3, 4, 5, 6, 7, 8);
      out.clear();
    }

    void launch() {
      device.launch(kernel, Grid.of(2), 32, 0, out, x, index, 3);
    }

    @Override
    public void close() {
      x.close();
      index.close();
      out.close();
    }
  }

  /** A product of random matrices, each with columns to spare. */
  private final class Product implements AutoCloseable {
    final int m;
    final int n;
    final int k;
    final float[] xs;
    final float[] ws;
    final Matrix x;
    final Matrix w;
    final Matrix out;

    Product(int m, int n, int k, DType type, DType outType) {
      this.m = m;
      this.n = n;
      this.k = k;
      Random random = new Random(m * 31 + n);
      xs = random(random, m * (k + 8), type);
      ws = random(random, n * (k + 16), type);
      x = new Matrix(upload(xs, type), type, k + 8);
      w = new Matrix(upload(ws, type), type, k + 16);
      out = new Matrix(device.allocate((long) m * (n + 8) * outType.bytes()), outType, n + 8);
      out.buffer().clear();
    }

    void run() {
      device.multiply(m, n, k, x, w, out);
    }

    void check() {
      float[] actual = download(out.buffer(), m * (n + 8), out.type());
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n + 8; j++) {
          double expected = 0;
          double size = 0;
          for (int l = 0; l < k && j < n; l++) {
            double term = (double) xs[i * (k + 8) + l] * ws[j * (k + 16) + l];
            expected += term;
            size += Math.abs(term);
          }
          // The sum's rounding grows with its terms; the product's own is half a unit.
          double tolerance =
              1e-6 * size + (out.type() == DType.BF16 ? Math.abs(expected) / 256 : 0);
          assertEquals(expected, actual[i * (n + 8) + j], tolerance, "at " + i + ", " + j);
        }
      }
    }

    @Override
    public void close() {
      x.buffer().close();
      w.buffer().close();
      out.buffer().close();
    }
  }

  private static float[] random(Random random, int count, DType type) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      float value = (float) random.nextGaussian();
      values[i] =
          type == DType.F32
              ? value
              : Float.intBitsToFloat(Float.floatToRawIntBits(value) & 0xFFFF0000);
    }
    return values;
  }

  private Buffer upload(float[] values, DType type) {
    if (type == DType.F32) {
      return device.upload(MemorySegment.ofArray(values));
    }
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    return device.upload(MemorySegment.ofArray(bits));
  }

  private static float[] download(Buffer buffer, int count, DType type) {
    if (type == DType.F32) {
      return buffer.toFloats(count);
    }
    short[] bits = new short[count];
    buffer.copyTo(MemorySegment.ofArray(bits));
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    return values;
  }
}
