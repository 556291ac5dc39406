package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SafetensorsTest {
  private static final Path NAME = Path.of("x.safetensors");

  @TempDir Path folder;

  /** The bytes of a file with this header and so many bytes of data, counting up. */
  static byte[] file(String header, int dataBytes) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer file =
        ByteBuffer.allocate(8 + json.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN);
    file.putLong(json.length).put(json);
    for (int i = 0; i < dataBytes; i++) {
      file.put((byte) i);
    }
    return file.array();
  }

  private static Safetensors.Header parse(String header, int dataBytes) {
    return Safetensors.parse(NAME, MemorySegment.ofArray(file(header, dataBytes)));
  }

  private static String refusal(byte[] file) {
    return assertThrows(
            BadFileException.class, () -> Safetensors.parse(NAME, MemorySegment.ofArray(file)))
        .getMessage();
  }

  @Test
  void readsTensorsAndMetadataOfAHeaderWrittenByHand() {
    Safetensors.Header header =
        parse(
            """
            {"__metadata__":{"format":"pt"},
             "b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},
             "a":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]}, "empty":
             {"data_offsets":[11,11],"shape":[0,7],"dtype":"F32"}} \s""",
            11);
    assertEquals(Map.of("format", "pt"), header.metadata());
    assertEquals(List.of("a", "b", "empty"), List.copyOf(header.tensors().keySet()));
    assertArrayEquals(new int[] {0x03020100, 0x07060504}, header.tensors().get("a").toInts());
    assertArrayEquals(new byte[] {8, 9, 10}, header.tensors().get("b").toBytes());
    assertArrayEquals(new long[] {0, 7}, header.tensors().get("empty").shape());
    assertEquals(0, header.tensors().get("empty").toFloats().length);
  }

  @Test
  void readsDataThatIsNotAligned() throws IOException {
    Path path = folder.resolve("odd.safetensors");
    byte[] file =
        file(
            "{\"pad\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                + "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}",
            9);
    ByteBuffer.wrap(file)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putFloat(file.length - 8, 1.25f)
        .putFloat(file.length - 4, -3);
    Files.write(path, file);
    try (Safetensors opened = Safetensors.open(path)) {
      assertTrue(
          opened.tensor("x").data().address() % 4 != 0, "the test is about misaligned tensors");
      assertArrayEquals(new float[] {1.25f, -3}, opened.tensor("x").toFloats());
    }
  }

  @Test
  void widensHalfPrecisionExactly() {
    // 1.5, -2 and the smallest subnormal, in f16 and in bf16
    TensorView f16 = halves(DType.F16, 0x3e00, 0xc000, 0x0001);
    TensorView bf16 = halves(DType.BF16, 0x3fc0, 0xc000, 0x0001);
    assertArrayEquals(new float[] {1.5f, -2, 0x1p-24f}, f16.toFloats());
    assertArrayEquals(new float[] {1.5f, -2, 0x1p-133f}, bf16.toFloats());
    float[] part = new float[1];
    bf16.copyFloats(1, part);
    assertEquals(-2, part[0]);
    assertThrows(IndexOutOfBoundsException.class, () -> bf16.copyFloats(3, part));
  }

  private static TensorView halves(DType dtype, int... bits) {
    ByteBuffer bytes = ByteBuffer.allocate(2 * bits.length).order(ByteOrder.LITTLE_ENDIAN);
    for (int half : bits) {
      bytes.putShort((short) half);
    }
    return new TensorView(
        "h", dtype, new long[] {bits.length}, MemorySegment.ofArray(bytes.array()));
  }

  @Test
  void refusesToReadATensorAsWhatItIsNot() {
    TensorView bytes =
        parse("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4)
            .tensors()
            .get("x");
    assertThrows(IllegalArgumentException.class, bytes::toFloats);
    assertThrows(IllegalArgumentException.class, bytes::toInts);
    assertThrows(IllegalArgumentException.class, bytes::toLongs);
  }

  @Test
  void aViewShowsExactlyTheBytesOfItsShape() {
    MemorySegment data = MemorySegment.ofArray(new byte[24]);
    assertEquals(6, new TensorView("x", DType.F32, new long[] {3, 2}, data).elements());
    assertTrue(new TensorView("x", DType.F32, new long[] {6}, data).data().isReadOnly());
    for (long[] shape :
        new long[][] {{5}, {7}, {}, {-3, -2}, {0}, {6, Long.MAX_VALUE}, {1L << 62, 4, 6}}) {
      assertThrows(
          IllegalArgumentException.class, () -> new TensorView("x", DType.F32, shape, data));
    }
  }

  @Test
  void viewsAreUnreadableAfterClosing() throws IOException {
    Path path = folder.resolve("x.safetensors");
    Files.write(path, file("{\"x\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4));
    Safetensors opened = Safetensors.open(path);
    TensorView view = opened.tensor("x");
    assertEquals(0x03020100, view.toInts()[0]);
    opened.close();
    assertThrows(IllegalStateException.class, view::toInts);
  }

  @Test
  void namesTheTensorsThereAreWhenOneIsMissing() throws IOException {
    Path path = folder.resolve("x.safetensors");
    Files.write(path, file("{\"x\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4));
    try (Safetensors opened = Safetensors.open(path)) {
      String message = assertThrows(BadFileException.class, () -> opened.tensor("y")).getMessage();
      assertTrue(message.contains("\"y\"") && message.contains("\"x\""), message);
      assertTrue(opened.find("y").isEmpty());
    }
  }

  @Test
  void refusesAFileThatIsNotThere() {
    String message =
        assertThrows(
                BadFileException.class, () -> Safetensors.open(folder.resolve("no.safetensors")))
            .getMessage();
    assertTrue(message.endsWith("no.safetensors: no such file"), message);
    assertThrows(BadFileException.class, () -> Safetensors.open(folder));
  }

  @Test
  void refusesAnEmptyFile() throws IOException {
    Path empty = Files.createFile(folder.resolve("empty.safetensors"));
    assertTrue(
        assertThrows(BadFileException.class, () -> Safetensors.open(empty))
            .getMessage()
            .contains("0 bytes long"));
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 7})
  void refusesAFileShorterThanTheLengthOfItsHeader(int bytes) {
    assertTrue(refusal(new byte[bytes]).contains("too short"));
  }

  @ParameterizedTest
  @ValueSource(longs = {Long.MAX_VALUE, Long.MIN_VALUE, -1, 100_000_001, 4_000_000_000L})
  void refusesAHeaderLengthBeyondTheLimit(long length) {
    byte[] file = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array();
    String message = refusal(file);
    assertTrue(message.contains(Long.toUnsignedString(length)), message);
  }

  @Test
  void refusesAHeaderLongerThanTheFileWithoutAllocatingIt() {
    byte[] file =
        ByteBuffer.allocate(20).order(ByteOrder.LITTLE_ENDIAN).putLong(100_000_000).array();
    assertTrue(refusal(file).contains("only 12 follow"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "[]",
        "{",
        "{}x",
        "{}{}",
        "{'x':1}",
        "{\"x\":1}",
        "{\"x\":null}",
        "{\"x\":[]}",
        "\0{}",
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}",
        "{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}",
      })
  void refusesAHeaderThatIsNoObjectOfObjects(String header) {
    String message = refusal(file(header, 0));
    assertTrue(message.startsWith("x.safetensors: "), message);
    assertTrue(message.contains("header") || message.contains("__metadata__"), message);
    assertFalse(message.contains("\n"), message);
  }

  @Test
  void refusesTextThatIsNotUtf8() {
    byte[] file = file("{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    assertDoesNotThrow(() -> Safetensors.parse(NAME, MemorySegment.ofArray(file)));
    file[10] = (byte) 0xff;
    assertTrue(refusal(file).contains("UTF-8"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"shape\":[1],\"data_offsets\":[0,4] | needs dtype",
        "\"dtype\":\"I32\",\"data_offsets\":[0,4] | needs dtype",
        "\"dtype\":\"I32\",\"shape\":[1] | needs dtype",
        "\"dtype\":\"I32\",\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4] | comes twice",
        "\"dtype\":\"i32\",\"shape\":[1],\"data_offsets\":[0,4] | dtype \"i32\"",
        "\"dtype\":\"Q4_K\",\"shape\":[1],\"data_offsets\":[0,4] | dtype \"Q4_K\"",
        "\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4] | dtype",
        "\"dtype\":\"I32\",\"shape\":1,\"data_offsets\":[0,4] | shape that is not a list",
        "\"dtype\":\"I32\",\"shape\":[1.0],\"data_offsets\":[0,4] | 1.0 in its shape",
        "\"dtype\":\"I32\",\"shape\":[\"1\"],\"data_offsets\":[0,4] | in its shape",
        "\"dtype\":\"I32\",\"shape\":[[1]],\"data_offsets\":[0,4] | in its shape",
        "\"dtype\":\"I32\",\"shape\":[-1],\"data_offsets\":[0,4] | -1 in its shape",
        "\"dtype\":\"I32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4] | in its shape",
        "\"dtype\":\"I32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4] | 2^63",
        "\"dtype\":\"I32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4] | 2^63",
        "\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,4] | needs 8",
        "\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,3] | needs 4",
        "\"dtype\":\"I32\",\"shape\":[0],\"data_offsets\":[0,4] | needs 0",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[4,0] | data_offsets [4, 0]",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0] | data_offsets [0]",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,2,4] | data_offsets",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,-4] | -4 in its data_offsets",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615] | data_offsets",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[1,5] | ends at byte 5",
        "\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8] | truncated",
        "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1 | property \"x\"",
      })
  void refusesABadEntryAndNamesFileAndTensor(String entry, String expected) {
    String message = refusal(file("{\"the one\":{" + entry + "}}", 4));
    assertTrue(message.startsWith("x.safetensors: "), message);
    assertTrue(message.contains(expected), message);
    assertTrue(message.contains("the one") || message.contains("comes twice"), message);
  }

  @ParameterizedTest
  @CsvSource({
    "0, 4, 4, 8, ok",
    "4, 8, 0, 4, ok",
    "0, 4, 0, 4, overlap",
    "0, 4, 2, 6, overlap",
    "4, 8, 4, 8, overlap",
    "0, 4, 5, 9, only 8",
  })
  void tensorsMustCoverTheDataExactly(int a, int b, int c, int d, String expected) {
    String header =
        "{\"x\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[%d,%d]},".formatted(a, b)
            + "\"y\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[%d,%d]}}".formatted(c, d);
    if (expected.equals("ok")) {
      assertEquals(2, parse(header, 8).tensors().size());
    } else {
      String message = refusal(file(header, 8));
      assertTrue(message.contains(expected), message);
    }
    assertTrue(refusal(file("{}", 8)).contains("8 bytes after the last tensor"));
  }

  @Test
  void refusesTwoTensorsOfOneName() {
    String entry = "\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    assertTrue(refusal(file("{" + entry + "," + entry + "}", 0)).contains("comes twice"));
  }

  @Test
  void hostileNamesMakeAnErrorOfOneShortLine() {
    String name = "a\\nb".repeat(10_000);
    String message =
        refusal(
            file("{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,9]}}", 1));
    assertTrue(message.length() <= 1000 && message.lines().count() == 1, message);
  }

  @Test
  void everyPrefixAndEveryFlippedByteOfAFileIsAnErrorOrAValue() {
    byte[] good =
        file(
            "{\"__metadata__\":{\"k\":\"v\"},\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],"
                + "\"data_offsets\":[0,16]}}",
            16);
    for (int length = 0; length < good.length; length++) {
      byte[] prefix = Arrays.copyOf(good, length);
      refusal(prefix);
    }
    for (int i = 0; i < good.length; i++) {
      for (int bit = 0; bit < 8; bit++) {
        byte[] flipped = good.clone();
        flipped[i] ^= (byte) (1 << bit);
        HostileFilesFuzzTest.safetensors(flipped);
      }
    }
  }
}
