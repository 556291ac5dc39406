package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
  static final String CONFIG =
      """
      {"model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2,
       "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5,
       "max_position_embeddings": 32, "tie_word_embeddings": %s}
      """;

  @TempDir Path folder;

  static ModelConfig config(boolean tied) {
    return ModelConfig.parse(
        Path.of("config.json"), CONFIG.formatted(tied).getBytes(StandardCharsets.UTF_8));
  }

  /** Writes f32 tensors of these shapes; each is filled with its own hash. */
  static void write(Path file, Map<String, long[]> shapes) {
    List<TensorSpec> specs = new ArrayList<>();
    shapes.forEach((name, shape) -> specs.add(new TensorSpec(name, DType.F32, shape)));
    try (var out = SafetensorsWriter.create(file, Map.of("format", "pt"), specs)) {
      for (TensorSpec spec : specs) {
        float[] values = new float[(int) (spec.byteSize() / 4)];
        Arrays.fill(values, spec.name().hashCode());
        out.write(spec.name(), values);
      }
    }
  }

  private static Map<String, long[]> expected(boolean tied) {
    return new LinkedHashMap<>(TensorNames.expected(config(tied)));
  }

  private String refusal() {
    return assertThrows(BadFileException.class, () -> Checkpoint.open(folder).close()).getMessage();
  }

  private String requireRefusal(boolean tied) {
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      return assertThrows(BadFileException.class, () -> checkpoint.require(config(tied)))
          .getMessage();
    }
  }

  private void index(String weightMap) throws IOException {
    Files.writeString(
        folder.resolve("model.safetensors.index.json"),
        "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + weightMap + "}}");
  }

  @Test
  void opensASingleFile() {
    write(folder.resolve("model.safetensors"), expected(false));
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      checkpoint.require(config(false));
      assertEquals(expected(false).keySet(), checkpoint.names());
      long elements =
          expected(false).values().stream()
              .mapToLong(shape -> Arrays.stream(shape).reduce(1, (a, b) -> a * b))
              .sum();
      assertEquals(4 * elements, checkpoint.byteSize());
      String message =
          assertThrows(BadFileException.class, () -> checkpoint.tensor("x")).getMessage();
      assertTrue(message.contains("\"x\""), message);
    }
  }

  @Test
  void takesTensorsThatAreInMemory() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment memory = arena.allocate(4 * 24); // shared by all: none is larger than [6, 4]
      Map<String, TensorView> tensors = new LinkedHashMap<>();
      expected(false)
          .forEach(
              (name, shape) -> {
                long bytes = 4 * Arrays.stream(shape).reduce(1, (a, b) -> a * b);
                MemorySegment data = memory.asSlice(0, bytes);
                tensors.put(name, new TensorView(name, DType.F32, shape, data));
              });
      Checkpoint checkpoint = Checkpoint.of("random weights", tensors);
      checkpoint.require(config(false));
      checkpoint.close();
      memory.set(ValueLayout.JAVA_FLOAT, 0, 7);
      assertEquals(7, checkpoint.tensor("model.norm.weight").toFloats()[0]);

      tensors.remove("model.norm.weight");
      Checkpoint lacks = Checkpoint.of("random weights", tensors);
      String message =
          assertThrows(BadFileException.class, () -> lacks.require(config(false))).getMessage();
      assertTrue(
          message.startsWith("random weights: has no tensor \"model.norm.weight\""), message);
    }
    TensorView onHeap =
        new TensorView("a", DType.U8, new long[] {2}, MemorySegment.ofArray(new byte[2]));
    assertThrows(IllegalArgumentException.class, () -> Checkpoint.of("x", Map.of("a", onHeap)));
  }

  @Test
  void opensShards() throws IOException {
    write(folder.resolve("model-00001-of-00002.safetensors"), Map.of("a", new long[] {2}));
    write(folder.resolve("model-00002-of-00002.safetensors"), Map.of("b", new long[] {3}));
    index("\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model-00002-of-00002.safetensors\"");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertEquals(Set.of("a", "b"), checkpoint.names());
      float b = "b".hashCode();
      assertArrayEquals(new float[] {b, b, b}, checkpoint.tensor("b").toFloats());
    }
  }

  @Test
  void refusesAMissingShard() throws IOException {
    write(folder.resolve("one.safetensors"), Map.of("a", new long[] {2}));
    index("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"");
    assertTrue(refusal().contains("two.safetensors, which is not in the folder"));
  }

  @Test
  void refusesAnIndexThatPlacesATensorWhereItIsNot() throws IOException {
    write(folder.resolve("one.safetensors"), Map.of("a", new long[] {2}));
    index("\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"");
    assertTrue(refusal().contains("\"b\" in one.safetensors, which lacks it"));
  }

  @Test
  void refusesAnIndexThatLeavesATensorOut() throws IOException {
    write(folder.resolve("one.safetensors"), Map.of("a", new long[] {2}, "b", new long[] {2}));
    index("\"a\":\"one.safetensors\"");
    assertTrue(refusal().contains("does not list tensor \"b\""));
  }

  @Test
  void refusesATensorThatTwoShardsHold() throws IOException {
    write(folder.resolve("one.safetensors"), Map.of("a", new long[] {2}));
    write(folder.resolve("two.safetensors"), Map.of("a", new long[] {2}, "b", new long[] {2}));
    index("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"");
    assertTrue(refusal().contains("\"a\", which another shard holds too"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "../outside.safetensors",
        "/etc/passwd",
        "sub/one.safetensors",
        "..\\\\one.safetensors",
        "one.bin",
        "",
        "one.safetensors\\u0000",
      })
  void refusesShardsThatAreNoPlainNames(String shard) throws IOException {
    index("\"a\":\"" + shard + "\"");
    assertTrue(refusal().contains("no plain *.safetensors name"), refusal());
  }

  @Test
  void refusesDamagedIndexes() throws IOException {
    Path index = folder.resolve("model.safetensors.index.json");
    Files.writeString(index, "{\"weight_map\":{\"a\":1}}");
    assertTrue(refusal().contains("\"weight_map.a\" is 1, but must be a string"), refusal());
    Files.writeString(index, "{\"weight_map\":[]}");
    assertTrue(refusal().contains("\"weight_map\""));
    Files.writeString(index, "{}");
    assertTrue(refusal().contains("has no \"weight_map\""));
    Files.writeString(index, "{\"weight_map\":{");
    assertTrue(refusal().contains("not valid JSON"));
  }

  @Test
  void saysWhatToDoWithOtherFormats() throws IOException {
    assertTrue(refusal().contains("neither model.safetensors nor"));
    Files.writeString(folder.resolve("pytorch_model.bin"), "");
    assertTrue(refusal().contains("pytorch_model.bin"), refusal());
    assertTrue(refusal().contains("convert"), refusal());
    Files.delete(folder.resolve("pytorch_model.bin"));
    Files.writeString(folder.resolve("llama-q4.gguf"), "");
    assertTrue(refusal().contains("llama-q4.gguf"), refusal());
    assertTrue(
        assertThrows(BadFileException.class, () -> Checkpoint.open(folder.resolve("no")).close())
            .getMessage()
            .contains("no such model folder"));
  }

  @Test
  void aDamagedFileClosesEverythingAndNamesTheShard() throws IOException {
    write(folder.resolve("one.safetensors"), Map.of("a", new long[] {2}));
    Files.write(folder.resolve("two.safetensors"), new byte[4]);
    index("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"");
    assertTrue(refusal().contains("two.safetensors: is 4 bytes long"), refusal());
  }

  @Test
  void requiresEveryTensorInItsShape() {
    var tensors = expected(false);
    tensors.remove("model.layers.1.self_attn.k_proj.weight");
    write(folder.resolve("model.safetensors"), tensors);
    String missing = requireRefusal(false);
    assertTrue(
        missing.contains("no tensor \"model.layers.1.self_attn.k_proj.weight\"")
            && missing.contains("[2, 4]"),
        missing);

    tensors.put("model.layers.1.self_attn.k_proj.weight", new long[] {4, 2});
    write(folder.resolve("model.safetensors"), tensors);
    String misshaped = requireRefusal(false);
    assertTrue(misshaped.contains("shape [4, 2]") && misshaped.contains("[2, 4]"), misshaped);
  }

  @Test
  void refusesATensorTheConfigDoesNotAnnounce() {
    var tensors = expected(false);
    tensors.put("model.layers.0.self_attn.rotary_emb.inv_freq", new long[] {1});
    write(folder.resolve("model.safetensors"), tensors);
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertDoesNotThrow(() -> checkpoint.require(config(false)));
    }
    tensors.put("model.layers.0.self_attn.o_proj.bias", new long[] {4});
    write(folder.resolve("model.safetensors"), tensors);
    String message = requireRefusal(false);
    assertTrue(message.contains("\"model.layers.0.self_attn.o_proj.bias\""), message);
  }

  @Test
  void refusesWeightsThatAreNoFloats() {
    List<TensorSpec> specs = new ArrayList<>();
    expected(false).forEach((name, shape) -> specs.add(new TensorSpec(name, DType.I32, shape)));
    try (var out = SafetensorsWriter.create(folder.resolve("model.safetensors"), Map.of(), specs)) {
      specs.forEach(spec -> out.write(spec.name(), new int[(int) (spec.byteSize() / 4)]));
    }
    assertTrue(requireRefusal(false).contains("is I32"), requireRefusal(false));
  }

  @Test
  void aTiedHeadMayBeAbsentOrTheSameButNotAnother() throws IOException {
    write(folder.resolve("model.safetensors"), expected(true));
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      checkpoint.require(config(true));
      assertTrue(
          assertThrows(BadFileException.class, () -> checkpoint.require(config(false)))
              .getMessage()
              .contains("\"lm_head.weight\""));
    }
    // write() fills by name, so the two differ
    write(folder.resolve("model.safetensors"), expected(false));
    assertTrue(requireRefusal(true).contains("tie_word_embeddings"), requireRefusal(true));

    writeWithEqualHead();
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertDoesNotThrow(() -> checkpoint.require(config(true)));
    }
  }

  private void writeWithEqualHead() {
    List<TensorSpec> specs = new ArrayList<>();
    expected(false).forEach((name, shape) -> specs.add(new TensorSpec(name, DType.F32, shape)));
    try (var out = SafetensorsWriter.create(folder.resolve("model.safetensors"), Map.of(), specs)) {
      specs.forEach(spec -> out.write(spec.name(), new float[(int) (spec.byteSize() / 4)]));
    }
  }
}
