package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Reading pages that a mapped file has no more: by Java, by kernels and products of the CPU on
 * threads that Java knows nothing of, and by copies to a device. Each such read raises SIGBUS.
 */
@DisabledIfSystemProperty(named = "halter.test.cuda", matches = "real")
class ShrinkingFileTest {
  private static final int ROWS = 512;
  private static final int WIDTH = 1024;
  private static final int PAGE = 4096; // of f32, a row each

  @TempDir Path folder;

  private Path file;
  private long length;

  @BeforeEach
  void write() throws IOException {
    file = folder.resolve("ones.safetensors");
    float[] ones = new float[ROWS * WIDTH];
    Arrays.fill(ones, 1);
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file, Map.of(), List.of(new TensorSpec("ones", DType.F32, ROWS, WIDTH)))) {
      out.write("ones", ones);
    }
    length = Files.size(file);
  }

  @Test
  void aThreadThatIsInterruptedLeavesTheFileToOthers() throws Exception {
    MappedFile mapped = MappedFile.open(file);
    Thread.currentThread().interrupt();
    mapped.requireWhole();
    assertTrue(Thread.interrupted());
    mapped.requireWhole();
    cut(PAGE); // and it is looked at still
    assertThrows(BadFileException.class, mapped::close);
  }

  private void cut(long bytes) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.truncate(bytes);
    }
  }

  /** To be told of both lengths, and what to do. */
  private void assertShorter(long bytes, BadFileException e) {
    assertEquals(
        ("%s: got shorter while it was in use, from %,d to %,d bytes: leave the files of a model"
                + " alone while it runs")
            .formatted(file, length, bytes),
        e.getMessage());
  }

  @Test
  void whatJavaReadsOfItIsAnError() throws IOException {
    Safetensors tensors = Safetensors.open(file);
    float[] whole = tensors.tensor("ones").toFloats();
    tensors.requireWhole();
    cut(2 * PAGE);
    float[] rest = tensors.tensor("ones").toFloats();
    assertEquals(1, rest[0]);
    assertEquals(0, rest[rest.length - 1]);
    assertEquals(whole.length, rest.length);
    assertShorter(2 * PAGE, assertThrows(BadFileException.class, tensors::requireWhole));
    assertShorter(2 * PAGE, assertThrows(BadFileException.class, tensors::close));
    // It is closed all the same.
    assertThrows(IllegalStateException.class, () -> tensors.tensor("ones").toFloats());
  }

  /** The rest of the file's last page reads as zeros without any signal. */
  @Test
  void aFewBytesLessAreAnErrorToo() throws IOException {
    Safetensors tensors = Safetensors.open(file);
    cut(length - 1);
    assertShorter(length - 1, assertThrows(BadFileException.class, tensors::close));
  }

  /** As by {@code cp} over it: its length is right again when it is looked at. */
  @Test
  void aFileThatIsWrittenAnewIsAnError() throws IOException {
    byte[] bytes = Files.readAllBytes(file);
    try (Safetensors tensors = Safetensors.open(file)) {
      cut(0);
      tensors.tensor("ones").toFloats();
      Files.write(file, bytes);
      String message = assertThrows(BadFileException.class, tensors::requireWhole).getMessage();
      assertTrue(message.contains("could not be read to its end"), message);
    } catch (BadFileException e) {
      assertTrue(e.getMessage().contains("written anew"), e.getMessage());
    }
    Safetensors again = Safetensors.open(file);
    assertEquals(1, again.tensor("ones").toFloats()[ROWS]);
    again.close();
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void aCopyToADeviceOutlivesIt(Device device) throws IOException {
    Safetensors tensors = Safetensors.open(file);
    cut(PAGE);
    try (Buffer copy = device.allocate(4L * ROWS * WIDTH)) {
      copy.copyFrom(tensors.tensor("ones").data());
      device.synchronize();
      assertEquals(0, copy.toFloats(ROWS * WIDTH)[ROWS * WIDTH - 1]);
    }
    assertShorter(PAGE, assertThrows(BadFileException.class, tensors::close));
  }

  /** Products of many threads, all of which read what is gone at once; of our own and of oneDNN. */
  @ParameterizedTest
  @CsvSource({"false,1", "false,4", "true,1", "true,4"})
  void productsOutliveIt(boolean onednn, int threads) throws IOException {
    try (Device device = CpuDevice.open(threads, !onednn);
        Buffer x = device.allocate(4L * 8 * WIDTH);
        Buffer out = device.allocate(4L * 8 * ROWS)) {
      float[] ones = new float[8 * WIDTH];
      Arrays.fill(ones, 1);
      x.set(ones);
      for (int round = 0; round < 20; round++) {
        write();
        Safetensors tensors = Safetensors.open(file);
        try (Buffer weights = device.upload(tensors.tensor("ones").data())) {
          Matrix w = new Matrix(weights, DType.F32, WIDTH);
          Matrix to = new Matrix(out, DType.F32, ROWS);
          device.multiply(8, ROWS, WIDTH, new Matrix(x, DType.F32, WIDTH), w, to);
          float[] whole = new float[8 * ROWS];
          Arrays.fill(whole, WIDTH);
          assertArrayEquals(whole, out.toFloats(8 * ROWS));
          tensors.requireWhole();
          cut((long) PAGE * round);
          device.multiply(8, ROWS, WIDTH, new Matrix(x, DType.F32, WIDTH), w, to);
          assertEquals(0, out.toFloats(8 * ROWS)[8 * ROWS - 1]);
        }
        assertShorter((long) PAGE * round, assertThrows(BadFileException.class, tensors::close));
      }
    }
  }

  /** What is mapped by others goes to the JVM as before, though our handler came after its own. */
  @Test
  void otherMappingsAreLeftToJava() throws IOException {
    Safetensors.open(file).close();
    try (Arena arena = Arena.ofConfined();
        FileChannel channel = FileChannel.open(file)) {
      MemorySegment mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, length, arena);
      cut(0);
      byte[] bytes = new byte[(int) length];
      assertThrows(
          InternalError.class,
          () -> MemorySegment.copy(mapped, ValueLayout.JAVA_BYTE, 0, bytes, 0, bytes.length));
    }
  }
}
