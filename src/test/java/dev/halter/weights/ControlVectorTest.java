package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ControlVectorTest {
  private static final Path NAME = Path.of("v.gguf");

  /** Writes GGUF by the layout of its specification, field by field, right or wrong. */
  static final class Gguf {
    int magic = 0x46554747;
    int version = 3;
    int alignment = 32;
    Long declaredTensors;
    Long declaredEntries;
    final List<byte[]> entries = new ArrayList<>();
    final List<byte[]> infos = new ArrayList<>();
    final List<float[]> data = new ArrayList<>();
    private long offset;

    static byte[] bytes(int size, Consumer<ByteBuffer> put) {
      ByteBuffer buffer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
      put.accept(buffer);
      return Arrays.copyOf(buffer.array(), buffer.position());
    }

    static void text(ByteBuffer buffer, String text) {
      byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
      buffer.putLong(utf8.length).put(utf8);
    }

    Gguf entry(String key, int type, Consumer<ByteBuffer> value) {
      entries.add(
          bytes(
              4096,
              buffer -> {
                text(buffer, key);
                buffer.putInt(type);
                value.accept(buffer);
              }));
      return this;
    }

    Gguf entry(String key, String value) {
      return entry(key, 8, buffer -> text(buffer, value));
    }

    Gguf tensor(String name, float... values) {
      return tensor(name, 1, values.length, 0, offset, values);
    }

    Gguf tensor(String name, int dims, long length, int type, long at, float... values) {
      infos.add(
          bytes(
              4096,
              buffer -> {
                text(buffer, name);
                buffer.putInt(dims);
                for (int i = 0; i < Math.clamp(dims, 0, 8); i++) {
                  buffer.putLong(length);
                }
                buffer.putInt(type).putLong(at);
              }));
      data.add(values);
      offset += padded(4L * values.length);
      return this;
    }

    private int padded(long size) {
      return (int) ((size + alignment - 1) / alignment * alignment);
    }

    byte[] bytes() {
      return bytes(
          1 << 16,
          out -> {
            out.putInt(magic).putInt(version);
            out.putLong(declaredTensors == null ? infos.size() : declaredTensors);
            out.putLong(declaredEntries == null ? entries.size() : declaredEntries);
            entries.forEach(out::put);
            infos.forEach(out::put);
            int start = padded(out.position());
            for (float[] values : data) {
              out.position(start);
              for (float value : values) {
                out.putFloat(value);
              }
              start = padded(out.position());
            }
          });
    }
  }

  static Gguf repeng() {
    return new Gguf()
        .entry("general.architecture", "controlvector")
        .entry("controlvector.model_hint", "llama")
        .entry("controlvector.layer_count", 4, buffer -> buffer.putInt(2))
        .tensor("direction.1", 1, 2, 3)
        .tensor("direction.2", -4, 5, 0.5f);
  }

  private static ControlVector parse(Gguf file) {
    return ControlVector.parse(NAME, MemorySegment.ofArray(file.bytes()));
  }

  private static String refusal(byte[] file) {
    return assertThrows(
            BadFileException.class, () -> ControlVector.parse(NAME, MemorySegment.ofArray(file)))
        .getMessage();
  }

  private static String refusal(Gguf file) {
    return refusal(file.bytes());
  }

  @Test
  void readsWhatRepengWrites() {
    ControlVector vector = parse(repeng());
    assertEquals(Optional.of("llama"), vector.modelHint());
    assertEquals(3, vector.length());
    assertEquals(Set.of(1, 2), vector.layers());
    assertArrayEquals(new float[] {1, 2, 3}, vector.directions().get(1));
    assertArrayEquals(new float[] {-4, 5, 0.5f}, vector.directions().get(2));
  }

  /** The file that repeng's export_gguf makes of the same directions, by the gguf package. */
  @Test
  void writesWhatRepengWrites(@TempDir Path folder) throws IOException {
    Path golden = Path.of("src/test/resources/control-vectors/repeng.gguf");
    ControlVector vector = ControlVector.read(golden);
    assertEquals(Set.of(1, 3), vector.layers());
    try (Safetensors sides = Safetensors.open(golden.resolveSibling("sides.safetensors"))) {
      assertArrayEquals(sides.tensor("pca").toFloats(), vector.directions().get(1));
      assertArrayEquals(sides.tensor("few_pca").toFloats(), vector.directions().get(3));
    }
    Path written = folder.resolve("v.gguf");
    vector.write(written);
    assertArrayEquals(Files.readAllBytes(golden), Files.readAllBytes(written));
  }

  @Test
  void whatIsWrittenIsReadBack(@TempDir Path folder) {
    Path file = folder.resolve("v.gguf");
    float[] first = {1, -2, Float.MIN_VALUE, 1e30f, 0.1f};
    float[] second = {0, 0, 7, 8, 9};
    new ControlVector(
            Optional.of("qwen3"), Optional.of("mean"), new TreeMap<>(Map.of(31, second, 2, first)))
        .write(file);
    ControlVector read = ControlVector.read(file);
    assertEquals(Optional.of("qwen3"), read.modelHint());
    assertEquals(Optional.of("mean"), read.method());
    assertEquals(List.of(2, 31), List.copyOf(read.layers()));
    assertArrayEquals(first, read.directions().get(2));
    assertArrayEquals(second, read.directions().get(31));
    // Where a plan adds it: at the layer that it was made for, without a shift.
    assertArrayEquals(second, SteeringVectors.read(folder, "v.gguf", 31, 0, 5));
  }

  @Test
  void layerZeroAndNoLayerAreNotWritten(@TempDir Path folder) throws IOException {
    Path file = folder.resolve("v.gguf");
    for (Map<Integer, float[]> directions :
        List.of(Map.<Integer, float[]>of(), Map.of(0, new float[] {1}, 1, new float[] {1}))) {
      ControlVector vector =
          new ControlVector(Optional.empty(), Optional.empty(), new TreeMap<>(directions));
      assertThrows(IllegalArgumentException.class, () -> vector.write(file));
    }
    assertFalse(Files.exists(file));
  }

  @Test
  void readsASignedLayerCountAsLlamaCppWritesIt() {
    Gguf file = new Gguf().entry("controlvector.layer_count", 5, buffer -> buffer.putInt(1));
    ControlVector vector = parse(file.tensor("direction.31", 7));
    assertArrayEquals(new float[] {7}, vector.directions().get(31));
    assertEquals(Optional.empty(), vector.modelHint());
  }

  @Test
  void directionsOfOneLayerAddUp() {
    ControlVector vector = parse(repeng().tensor("direction.01", 10, 20, 30));
    assertArrayEquals(new float[] {11, 22, 33}, vector.directions().get(1));
  }

  @Test
  void passesOverMetadataOfEveryType() {
    Gguf file = new Gguf();
    int[] sizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    for (int type = 0; type < sizes.length; type++) {
      int size = sizes[type];
      int elementType = type;
      if (size > 0) {
        file.entry("scalar" + type, type, buffer -> buffer.put(new byte[size]));
        file.entry(
            "array" + type,
            9,
            buffer -> buffer.putInt(elementType).putLong(3).put(new byte[3 * size]));
      }
    }
    file.entry("text", "x".repeat(100));
    file.entry(
        "texts",
        9,
        buffer -> {
          buffer.putInt(8).putLong(2);
          Gguf.text(buffer, "a");
          Gguf.text(buffer, "bc");
        });
    assertArrayEquals(new float[] {9}, parse(file.tensor("direction.5", 9)).directions().get(5));
  }

  @Test
  void keepsToAnotherAlignment() {
    Gguf file = new Gguf();
    file.alignment = 128;
    file.entry("general.alignment", 4, buffer -> buffer.putInt(128));
    ControlVector vector = parse(file.tensor("direction.1", 1).tensor("direction.2", 2));
    assertArrayEquals(new float[] {2}, vector.directions().get(2));
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 4, 0x03000000})
  void refusesOtherVersions(int version) {
    Gguf file = repeng();
    file.version = version;
    assertTrue(refusal(file).contains("version " + version), refusal(file));
  }

  @Test
  void refusesWhatIsNoControlVector() {
    Gguf notGguf = repeng();
    notGguf.magic++;
    assertTrue(refusal(notGguf).contains("no GGUF file"));
    assertTrue(
        refusal(new Gguf().entry("general.architecture", "llama").tensor("token_embd.weight", 1))
            .contains("architecture \"llama\""));
    assertTrue(refusal(new Gguf()).contains("holds no directions"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "direction.",
        "direction.x",
        "direction.-1",
        "direction.1.weight",
        "Direction.1",
        "directions.1",
        "direction.99999999999",
        "blk.0.weight",
        ""
      })
  void refusesOtherTensors(String name) {
    assertTrue(refusal(repeng().tensor(name, 1, 2, 3)).contains("\"" + name + "\""));
  }

  @Test
  void refusesDirectionsThatAreNoEqualF32Vectors() {
    assertTrue(refusal(new Gguf().tensor("direction.0", 1)).contains("count from 1"));
    assertTrue(refusal(repeng().tensor("direction.3", 1, 2)).contains("direction.1 has 3"));
    for (int dims : new int[] {0, 2, -1}) {
      String message = refusal(new Gguf().tensor("direction.1", dims, 1, 0, 0, 1));
      assertTrue(message.contains("dimensions"), message);
    }
    for (int type : new int[] {1, 8, 30, -1}) {
      String message = refusal(new Gguf().tensor("direction.1", 1, 1, type, 0, 1));
      assertTrue(message.contains("ggml type"), message);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "0, 0",
    "-1, 0",
    "9223372036854775807, 0",
    "4611686018427387904, 0",
    "1048577, 0",
    "9, 0",
    "1, 32",
    "1, -32",
    "1, 9223372036854775807",
  })
  void refusesLengthsAndOffsetsThatLie(long length, long offset) {
    String message = refusal(new Gguf().tensor("direction.1", 1, length, 0, offset, 1, 2));
    assertTrue(message.contains("\"direction.1\""), message);
  }

  @ParameterizedTest
  @ValueSource(longs = {1L << 62, Long.MAX_VALUE, -1, Long.MIN_VALUE, 1000})
  void refusesCountsThatCannotBe(long count) {
    Gguf tensors = repeng();
    tensors.declaredTensors = count;
    assertTrue(refusal(tensors).contains(Long.toUnsignedString(count) + " tensors"));
    Gguf entries = repeng();
    entries.declaredEntries = count;
    assertTrue(refusal(entries).contains(Long.toUnsignedString(count) + " metadata entries"));
    Gguf array =
        new Gguf().entry("a", 9, buffer -> buffer.putInt(12).putLong(count)).tensor("direction.1");
    refusal(array);
    Gguf text = new Gguf().entry("a", 8, buffer -> buffer.putLong(count)).tensor("direction.1");
    refusal(text);
  }

  @Test
  void refusesDamagedMetadata() {
    assertTrue(refusal(repeng().entry("controlvector.model_hint", "x")).contains("twice"));
    assertTrue(
        refusal(new Gguf().entry("a", 13, buffer -> buffer.putLong(0)).tensor("direction.1", 1))
            .contains("type 13"));
    assertTrue(
        refusal(
                new Gguf()
                    .entry("a", 9, buffer -> buffer.putInt(9).putLong(1).putLong(0))
                    .tensor("direction.1", 1))
            .contains("type 9"),
        "arrays of arrays are not part of the format");
    assertTrue(
        refusal(new Gguf().entry("controlvector.layer_count", 8, b -> Gguf.text(b, "2")))
            .contains("layer_count"));
    assertTrue(
        refusal(new Gguf().entry("controlvector.model_hint", 4, b -> b.putInt(2)))
            .contains("model_hint"));
    for (int alignment : new int[] {0, 3, 48}) {
      assertTrue(
          refusal(new Gguf().entry("general.alignment", 4, b -> b.putInt(alignment)))
              .contains("power of two"));
    }
  }

  @Test
  void everyPrefixAndEveryFlippedByteOfAFileIsAnErrorOrAValue() {
    byte[] good = repeng().bytes();
    for (int length = 0; length < good.length; length++) {
      refusal(Arrays.copyOf(good, length));
    }
    for (int i = 0; i < good.length; i++) {
      for (int bit = 0; bit < 8; bit++) {
        byte[] flipped = good.clone();
        flipped[i] ^= (byte) (1 << bit);
        HostileFilesFuzzTest.controlVector(flipped);
      }
    }
  }
}
