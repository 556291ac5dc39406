package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsWriterTest {
  @TempDir Path folder;

  @Test
  void whatIsWrittenIsReadBack() throws IOException {
    Path path = folder.resolve("out.safetensors");
    float[] large = new float[200_001]; // more than one buffer
    for (int i = 0; i < large.length; i++) {
      large[i] = i * 0.5f;
    }
    byte[] raw = new byte[300_000];
    Arrays.fill(raw, (byte) 0xa5);
    try (var out =
        SafetensorsWriter.create(
            path,
            Map.of("site", "blocks.0.hook_resid_post", "text", "\"\n→"),
            List.of(
                new TensorSpec("nothing", DType.F32, 0, 4),
                new TensorSpec("x/\"y\"", DType.F32, 3, 66_667),
                new TensorSpec("scalar", DType.I64),
                new TensorSpec("ids", DType.I32, 3),
                new TensorSpec("half", DType.F16, 2),
                new TensorSpec("brain", DType.BF16, 2),
                new TensorSpec("raw", DType.U8, raw.length),
                new TensorSpec("nothing more", DType.I32, 0)))) {
      out.write("x/\"y\"", large, 0, 7);
      out.write("x/\"y\"", large, 7, large.length - 7);
      out.write("scalar", new long[] {Long.MIN_VALUE});
      out.write("ids", new int[] {1, -2});
      out.write("ids", new int[] {3});
      out.write("half", new float[] {1.5f, -0.25f});
      out.write("brain", new float[] {1.5f, -0.25f});
      out.write("raw", MemorySegment.ofArray(raw));
      assertFalse(Files.exists(path), "the file must not appear before it is complete");
    }
    try (Safetensors in = Safetensors.open(path)) {
      assertEquals(Map.of("site", "blocks.0.hook_resid_post", "text", "\"\n→"), in.metadata());
      assertArrayEquals(large, in.tensor("x/\"y\"").toFloats());
      assertTrue(in.tensor("x/\"y\"").hasShape(3, 66_667));
      assertArrayEquals(new long[] {Long.MIN_VALUE}, in.tensor("scalar").toLongs());
      assertEquals(0, in.tensor("scalar").rank());
      assertArrayEquals(new int[] {1, -2, 3}, in.tensor("ids").toInts());
      assertArrayEquals(new float[] {1.5f, -0.25f}, in.tensor("half").toFloats());
      assertArrayEquals(new float[] {1.5f, -0.25f}, in.tensor("brain").toFloats());
      assertArrayEquals(raw, in.tensor("raw").toBytes());
      assertEquals(8, in.names().size());
    }
    byte[] bytes = Files.readAllBytes(path);
    long header = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    assertEquals(0, header % 8, "the data begins on a multiple of 8 bytes");
    assertEquals(List.of(path), files(), "nothing else is left in the folder");
  }

  @Test
  void aFileOfNoTensorsIsAFile() throws IOException {
    Path path = folder.resolve("empty.safetensors");
    SafetensorsWriter.create(path, Map.of(), List.of()).close();
    try (Safetensors in = Safetensors.open(path)) {
      assertTrue(in.names().isEmpty() && in.metadata().isEmpty());
    }
  }

  /** Bit patterns by the definition of rounding to nearest, ties to even. */
  @ParameterizedTest
  @CsvSource({
    "3f800000, 3f80",
    "3f808000, 3f80", // a tie goes to the even neighbour below
    "3f818000, 3f82", // and above
    "3f808001, 3f81",
    "3f807fff, 3f80",
    "bf818000, bf82",
    "7f7fffff, 7f80", // the largest float rounds to infinity
    "7f800000, 7f80",
    "ff800000, ff80",
    "00000001, 0000",
    "80000000, 8000",
  })
  void roundsToBf16(String f32, String bf16) {
    float value = Float.intBitsToFloat(Integer.parseUnsignedInt(f32, 16));
    assertEquals((short) Integer.parseInt(bf16, 16), SafetensorsWriter.bf16(value));
  }

  @ParameterizedTest
  @CsvSource({"7fc00000", "7f800001", "ffffffff"})
  void nanStaysNanInBf16(String f32) {
    short bf16 = SafetensorsWriter.bf16(Float.intBitsToFloat(Integer.parseUnsignedInt(f32, 16)));
    assertTrue(Float.isNaN(Float.intBitsToFloat(bf16 << 16)));
  }

  @Test
  void anIncompleteFileNeverReplacesAnOlderOne() throws IOException {
    Path path = folder.resolve("out.safetensors");
    Files.writeString(path, "old");
    var out = SafetensorsWriter.create(path, Map.of(), List.of(new TensorSpec("x", DType.F32, 2)));
    out.write("x", new float[] {1});
    String message = assertThrows(IllegalStateException.class, out::close).getMessage();
    assertTrue(message.contains("x F32 [2] lacks 4 bytes"), message);
    assertEquals("old", Files.readString(path));
    assertEquals(List.of(path), files());
    assertThrows(IllegalStateException.class, () -> out.write("x", new float[] {1}));
  }

  @Test
  void aWriterMisusedOnceGivesUpTheFile() throws IOException {
    Path path = folder.resolve("out.safetensors");
    List<TensorSpec> two =
        List.of(new TensorSpec("x", DType.F32, 1), new TensorSpec("y", DType.I32, 1));
    assertMisuse(path, two, out -> out.write("y", new int[] {1}), "y is out of turn");
    assertMisuse(path, two, out -> out.write("z", new int[] {1}), "z is out of turn");
    assertMisuse(path, two, out -> out.write("x", new int[] {1}), "x is F32");
    assertMisuse(path, two, out -> out.write("x", new long[] {1}), "x is F32");
    assertMisuse(path, two, out -> out.write("x", new float[2]), "4 more bytes, not 8");
    assertMisuse(path, two, out -> out.write("x", MemorySegment.ofArray(new byte[3])), "not 3");
    assertMisuse(
        path,
        two,
        out -> {
          out.write("x", new float[1]);
          out.write("y", new int[1]);
          out.write("y", new int[1]);
        },
        "all tensors are complete");
    assertEquals(List.of(), files());
  }

  private static void assertMisuse(
      Path path, List<TensorSpec> tensors, Consumer<SafetensorsWriter> misuse, String expected) {
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> {
                  try (var out = SafetensorsWriter.create(path, Map.of(), tensors)) {
                    misuse.accept(out);
                  }
                })
            .getMessage();
    assertTrue(message.contains(expected), message);
  }

  @Test
  void refusesTensorsThatCannotBe() {
    Path path = folder.resolve("out.safetensors");
    var x = new TensorSpec("x", DType.F32, 1);
    assertThrows(
        IllegalArgumentException.class,
        () -> SafetensorsWriter.create(path, Map.of(), List.of(x, x)));
    assertThrows(IllegalArgumentException.class, () -> new TensorSpec("x", DType.F32, -1));
    assertThrows(IllegalArgumentException.class, () -> new TensorSpec("x", DType.F32, 1L << 62, 4));
    assertThrows(
        IllegalArgumentException.class, () -> new TensorSpec("__metadata__", DType.F32, 1));
  }

  @Test
  void aFolderThatIsNotThereIsAnErrorThatNamesTheFile() {
    Path path = folder.resolve("no/out.safetensors");
    String message =
        assertThrows(
                UncheckedIOException.class,
                () -> SafetensorsWriter.create(path, Map.of(), List.of()))
            .getMessage();
    assertTrue(message.startsWith(path.toString()), message);
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> list = Files.list(folder)) {
      return list.toList();
    }
  }

  /** Maps have no order of their own; files have one. */
  @Test
  void theSameContentIsTheSameBytes(@TempDir Path folder) throws IOException {
    List<byte[]> files = new ArrayList<>();
    List<String> keys = new ArrayList<>(List.of("site", "format", "names", "template"));
    for (int i = 0; i < 4; i++) {
      Collections.rotate(keys, 1);
      Map<String, String> metadata = new LinkedHashMap<>();
      keys.forEach(key -> metadata.put(key, key + "'s"));
      Path file = folder.resolve("x.safetensors");
      SafetensorsWriter.create(file, metadata, List.of()).close();
      files.add(Files.readAllBytes(file));
    }
    files.forEach(bytes -> assertArrayEquals(files.getFirst(), bytes));
  }
}
