package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.io.InputStream;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ModelConfigTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Path NAME = Path.of("config.json");

  private static final String LLAMA =
      """
      {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
       "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
       "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 512,
       "rms_norm_eps": 1e-5}
      """;

  private static ModelConfig parse(String json) {
    return ModelConfig.parse(NAME, json.getBytes(StandardCharsets.UTF_8));
  }

  /** The Llama above with some keys set to other values. */
  private static String with(String changes) {
    try {
      ObjectNode config = (ObjectNode) JSON.readTree(LLAMA);
      config.setAll((ObjectNode) JSON.readTree("{" + changes + "}"));
      return config.toString();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static String refusal(String json) {
    return assertThrows(BadFileException.class, () -> parse(json)).getMessage();
  }

  /** What transformers makes of each config, from tools/goldens/configs.py. */
  @TestFactory
  Stream<DynamicTest> agreesWithTransformers() throws IOException {
    JsonNode goldens;
    try (InputStream in = ModelConfigTest.class.getResourceAsStream("configs.json")) {
      goldens = JSON.readTree(in);
    }
    List<JsonNode> cases = new ArrayList<>();
    goldens.get("cases").forEach(cases::add);
    assertTrue(cases.size() > 15);
    return cases.stream()
        .map(golden -> DynamicTest.dynamicTest(golden.get("name").asText(), () -> check(golden)));
  }

  private static void check(JsonNode golden) {
    ModelConfig config = parse(golden.get("config").toString());
    assertEquals(golden.get("kv_heads").asInt(), config.nKvHeads());
    assertEquals(golden.get("head").asInt(), config.dHead());
    assertEquals(integers(golden.get("windows")), config.slidingWindows());
    assertEquals(golden.get("bos").asInt(), config.bosTokenId());
    assertEquals(integers(golden.get("eos")), config.eosTokenIds());

    float[] frequencies = config.inverseFrequencies();
    assertEquals(golden.get("frequencies").size(), frequencies.length);
    for (int i = 0; i < frequencies.length; i++) {
      float expected = (float) golden.get("frequencies").get(i).asDouble();
      assertEquals(expected, frequencies[i], 4 * Math.ulp(expected), "frequency " + i);
    }

    Map<String, String> expected = new HashMap<>();
    golden
        .get("tensors")
        .properties()
        .forEach(entry -> expected.put(entry.getKey(), integers(entry.getValue()).toString()));
    Map<String, String> actual = new HashMap<>();
    TensorNames.expected(config).forEach((name, shape) -> actual.put(name, Arrays.toString(shape)));
    assertEquals(expected, actual);
  }

  private static List<Integer> integers(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).map(JsonNode::asInt).toList();
  }

  @Test
  void readsTheSizes() {
    ModelConfig config = parse(LLAMA);
    assertEquals(ModelConfig.Family.LLAMA, config.family());
    assertEquals(64, config.dModel());
    assertEquals(96, config.dMlp());
    assertEquals(3, config.nLayers());
    assertEquals(4, config.nHeads());
    assertEquals(160, config.vocabularySize());
    assertEquals(512, config.maxPositions());
    assertEquals(1e-5, config.rmsNormEps());
    assertEquals(new Rope.Default(10_000), config.rope());
  }

  @Test
  void linearScalingStretchesEveryFrequency() {
    float[] plain = parse(LLAMA).inverseFrequencies();
    float[] linear =
        parse(with("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}")).inverseFrequencies();
    for (int i = 0; i < plain.length; i++) {
      assertEquals(plain[i] / 4, linear[i], Math.ulp(plain[i]));
    }
  }

  /** The three bands of Llama 3.1's scaling, from its definition in double arithmetic. */
  @Test
  void llama3ScalingKeepsHighAndStretchesLowFrequencies() {
    var rope = new Rope.Llama3(500_000, 8, 1, 4, 8192);
    float[] frequencies = rope.inverseFrequencies(128);
    int kept = 0;
    int blended = 0;
    int stretched = 0;
    for (int i = 0; i < 64; i++) {
      double plain = Math.pow(500_000, -2.0 * i / 128);
      double wavelength = 2 * Math.PI / plain;
      double expected;
      if (wavelength < 8192 / 4.0) {
        kept++;
        expected = plain;
      } else if (wavelength > 8192) {
        stretched++;
        expected = plain / 8;
      } else {
        blended++;
        double smooth = (8192 / wavelength - 1) / 3;
        expected = (1 - smooth) * plain / 8 + smooth * plain;
      }
      assertEquals(expected, frequencies[i], 2e-6 * expected, "frequency " + i);
    }
    assertTrue(kept > 0 && blended > 0 && stretched > 0);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"model_type\":\"gemma2\" | model_type \"gemma2\"",
        "\"model_type\":\"mixtral\" | model_type \"mixtral\"",
        "\"model_type\":null | has no \"model_type\"",
        "\"model_type\":3 | \"model_type\" is 3",
        "\"architectures\":[\"LlamaForSequenceClassification\"] | LlamaForSequenceClassification",
        "\"architectures\":\"LlamaForCausalLM\" | \"architectures\"",
        "\"hidden_act\":\"gelu\" | hidden_act \"gelu\"",
        "\"quantization_config\":{\"bits\":4} | quantization_config",
        "\"num_local_experts\":8 | num_local_experts",
        "\"partial_rotary_factor\":0.5 | partial_rotary_factor",
        "\"rope_parameters\":{\"partial_rotary_factor\":0.5} | rope_parameters.partial_rotary",
        "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4} | \"yarn\" in rope_scaling",
        "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4} | \"dynamic\" in rope_scaling",
        "\"rope_parameters\":{\"rope_type\":\"longrope\"} | \"longrope\" in rope_parameters",
        "\"rope_parameters\":{\"full_attention\":{}} | per kind of layer",
        "\"rope_scaling\":{\"type\":\"linear\"} | has no \"rope_scaling.factor\"",
        "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0} | \"rope_scaling.factor\" is 0",
        "\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"} | \"rope_scaling.factor\" is \"2\"",
        "\"rope_scaling\":{\"type\":\"linear\",\"factor\":1e999} | \"rope_scaling.factor\"",
        "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8} | low_freq_factor",
        "\"rope_scaling\":\"linear\" | \"rope_scaling\" is \"linear\"",
        "\"rope_theta\":0 | \"rope_theta\" is 0",
        "\"hidden_size\":null | has no \"hidden_size\"",
        "\"hidden_size\":63 | 63 is no multiple of num_attention_heads 4",
        "\"hidden_size\":-64 | \"hidden_size\" is -64",
        "\"hidden_size\":64.5 | \"hidden_size\" is 64.5",
        "\"hidden_size\":\"64\" | \"hidden_size\" is \"64\"",
        "\"hidden_size\":99999999999999999999999999 | \"hidden_size\" is 999",
        "\"hidden_size\":1e300 | \"hidden_size\"",
        "\"hidden_size\":60 | head_dim is 15",
        "\"num_hidden_layers\":2147483647 | \"num_hidden_layers\"",
        "\"num_hidden_layers\":0 | \"num_hidden_layers\"",
        "\"num_key_value_heads\":3 | no multiple of num_key_value_heads 3",
        "\"num_key_value_heads\":8 | \"num_key_value_heads\" is 8",
        "\"num_key_value_heads\":0 | \"num_key_value_heads\" is 0",
        "\"head_dim\":17 | head_dim is 17",
        "\"head_dim\":1000000 | \"head_dim\"",
        "\"vocab_size\":2147483648 | \"vocab_size\"",
        "\"rms_norm_eps\":-1 | \"rms_norm_eps\"",
        "\"max_position_embeddings\":null | \"max_position_embeddings\"",
        "\"tie_word_embeddings\":\"yes\" | \"tie_word_embeddings\"",
        "\"attention_bias\":1 | \"attention_bias\"",
        "\"eos_token_id\":-1 | \"eos_token_id\"",
        "\"eos_token_id\":[1,\"2\"] | \"eos_token_id\"",
        "\"layer_types\":[\"full_attention\"] | 1 entries for 3 layers",
        "\"layer_types\":[\"full_attention\",\"mamba\",\"full_attention\"] | \"mamba\"",
      })
  void refusesAndNamesWhatIsWrong(String changes, String expected) {
    assertDoesNotThrow(() -> parse(LLAMA));
    String message = refusal(with(changes));
    assertTrue(message.startsWith("config.json: "), message);
    assertTrue(message.contains(expected), message);
  }

  /** As LlamaConfig, MistralConfig, Qwen2Config and Qwen3Config of transformers 5 fill them in. */
  @ParameterizedTest
  @CsvSource({"llama, 64, 2048", "mistral, 8, 131072", "qwen2, 32, 32768", "qwen3, 32, 32768"})
  void keysThatAreMissingHaveTransformersDefaults(String type, int kvHeads, int positions) {
    String config =
        """
        {"model_type": "%s", "hidden_size": 512, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 64, "vocab_size": 160 %s}
        """;
    ModelConfig parsed = parse(config.formatted(type, ""));
    assertEquals(kvHeads, parsed.nKvHeads());
    assertEquals(positions, parsed.maxPositions());
    assertEquals(64, parse(config.formatted(type, ",\"num_key_value_heads\":null")).nKvHeads());
    String odd = config.formatted(type, "").replace("64", "12");
    if (!type.equals("llama")) {
      assertTrue(refusal(odd).contains("transformers' default"), refusal(odd));
    }
  }

  /** transformers' Llama attends to all positions, whatever layer_types says. */
  @Test
  void llamaReadsNoLayerTypes() {
    String types = "\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\"]";
    for (String window : List.of("", ",\"sliding_window\":4")) {
      assertEquals(List.of(0, 0, 0), parse(with(types + window)).slidingWindows());
    }
    String mistral = "\"model_type\":\"mistral\",\"architectures\":null,\"sliding_window\":8,";
    assertTrue(refusal(with(mistral + types)).contains("layer_types[0]"));
  }

  @Test
  void whatIsNoFolderIsAnsweredWithWhatToDo(@TempDir Path folder) throws IOException {
    assertTrue(noFolder(Path.of("llama-3-8b.Q4_K_M.gguf")).contains("GGUF models are not read"));
    Path gguf = Files.createFile(folder.resolve("x.gguf"));
    assertTrue(noFolder(gguf).contains("GGUF models are not read"));
    assertTrue(
        noFolder(Path.of("meta-llama/Llama-3.1-8B"))
            .contains("hf download meta-llama/Llama-3.1-8B --local-dir DIR"));
    Path weights = Files.createFile(folder.resolve("model.safetensors"));
    assertTrue(noFolder(weights).contains("name the folder that holds config.json"));
    assertTrue(noFolder(folder.resolve("none")).endsWith("no such model folder"));
  }

  private static String noFolder(Path folder) {
    String message =
        assertThrows(BadFileException.class, () -> ModelConfig.read(folder)).getMessage();
    assertTrue(message.startsWith(folder + ": "), message);
    return message;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"sliding_window\":0",
        "\"sliding_window\":-4096",
        "\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\"]",
      })
  void refusesMistralWindowsThatMakeNoSense(String changes) {
    String mistral = "\"model_type\":\"mistral\",\"architectures\":null,";
    assertEquals(List.of(8, 8, 8), parse(with(mistral + "\"sliding_window\":8")).slidingWindows());
    assertTrue(refusal(with(mistral + changes)).contains("sliding_window"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "[]", "{", "nul", "{}", "{}{}", "{\"a\":1,\"a\":1}", "{\"a\":NaN}"})
  void refusesWhatIsNoJsonObject(String json) {
    assertTrue(refusal(json).startsWith("config.json: "));
  }

  @Test
  void refusesDeepNesting() {
    assertTrue(refusal("{\"a\":" + "[".repeat(100_000)).contains("nested"));
    assertTrue(refusal("{\"a\":".repeat(100_000)).contains("nested"));
  }

  @Test
  void aFolderWithoutConfigIsAClearError(@TempDir Path folder) throws IOException {
    assertTrue(
        assertThrows(BadFileException.class, () -> ModelConfig.read(folder))
            .getMessage()
            .endsWith("config.json: no such file"));
    Files.writeString(folder.resolve("config.json"), LLAMA);
    assertEquals(parse(LLAMA), ModelConfig.read(folder));
  }

  @Test
  void refusesAHugeConfigWithoutReadingIt(@TempDir Path folder) throws IOException {
    Path file = folder.resolve("config.json");
    try (var sparse = new RandomAccessFile(file.toFile(), "rw")) {
      sparse.setLength(1L << 40);
    }
    assertTrue(
        assertThrows(BadFileException.class, () -> ModelConfig.read(folder))
            .getMessage()
            .contains("1099511627776 bytes long"));
  }

  @Test
  void everyPrefixAndEveryFlippedByteOfAConfigIsAnErrorOrAValue() {
    byte[] good = LLAMA.getBytes(StandardCharsets.UTF_8);
    for (int i = 0; i < good.length; i++) {
      HostileFilesFuzzTest.config(Arrays.copyOf(good, i));
      for (int bit = 0; bit < 8; bit++) {
        byte[] flipped = good.clone();
        flipped[i] ^= (byte) (1 << bit);
        HostileFilesFuzzTest.config(flipped);
      }
    }
  }

  @Test
  void generationConfigAddsToTheConfig(@TempDir Path folder) throws IOException {
    ModelConfig config = parse(with("\"eos_token_id\":[5,6]"));
    assertEquals(
        new GenerationConfig(List.of(5, 6), false, 1, 1, 0), GenerationConfig.read(folder, config));
    Path file = folder.resolve("generation_config.json");
    Files.writeString(file, "{\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":40}");
    assertEquals(
        new GenerationConfig(List.of(5, 6), true, 0.6, 0.9, 40),
        GenerationConfig.read(folder, config));
    Files.writeString(file, "{\"eos_token_id\":7,\"temperature\":null}");
    assertEquals(
        new GenerationConfig(List.of(7), false, 1, 1, 0), GenerationConfig.read(folder, config));
    Files.writeString(file, "{\"temperature\":-1}");
    String message =
        assertThrows(BadFileException.class, () -> GenerationConfig.read(folder, config))
            .getMessage();
    assertTrue(message.contains("\"temperature\" is -1"), message);
  }
}
