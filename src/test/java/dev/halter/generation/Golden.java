package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.files.JsonObject;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** A golden model and what transformers computes with it; see tools/goldens/README.md. */
final class Golden implements AutoCloseable {
  static final List<String> NAMES =
      List.of(
          "llama2",
          "llama3",
          "llama31",
          "llama32",
          "llama-bias",
          "mistral",
          "qwen2",
          "qwen25",
          "qwen3");

  final Path folder;
  final JsonObject cases;
  private final Safetensors expected;

  Golden(String name) {
    this.folder = Path.of("src/test/resources/goldens", name);
    this.cases = JsonObject.read(folder.resolve("cases.json"));
    this.expected = Safetensors.open(folder.resolve("expected.safetensors"));
  }

  static Stream<String> names() {
    return NAMES.stream();
  }

  ModelConfig config() {
    return ModelConfig.read(folder.resolve("model"));
  }

  /** Loads the model with room for {@code sequences} sequences of up to 384 tokens. */
  Llama load(Device device, DType type, int sequences) {
    int context = 384;
    Llama.Limits limits =
        new Llama.Limits(
            128,
            Math.max(sequences, 64),
            sequences,
            sequences * KvCache.pagesFor(context),
            context);
    return Llama.load(folder.resolve("model"), device, type, limits);
  }

  static int[] tokens(JsonObject json, String key) {
    return json.integers(key).stream().mapToInt(Integer::intValue).toArray();
  }

  float[] expected(String name) {
    return expected.tensor(name).toFloats();
  }

  boolean has(String name) {
    return expected.find(name).isPresent();
  }

  /** Largest difference over the largest expected value, as the goldens measure it. */
  static double difference(float[] expected, float[] actual) {
    assertEquals(expected.length, actual.length);
    double largest = 0;
    double worst = 0;
    for (int i = 0; i < expected.length; i++) {
      largest = Math.max(largest, Math.abs(expected[i]));
      double off = Math.abs(expected[i] - actual[i]);
      worst = off <= worst ? worst : off; // NaN stays
    }
    return worst / largest;
  }

  static void assertClose(float[] expected, float[] actual, double tolerance, String what) {
    double difference = difference(expected, actual);
    assertTrue(difference <= tolerance, () -> what + " differs by " + difference);
  }

  @Override
  public void close() {
    expected.close();
  }
}
