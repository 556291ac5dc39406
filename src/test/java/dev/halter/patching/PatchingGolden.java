package dev.halter.patching;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.model.Llama;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalInt;
import java.util.stream.StreamSupport;

/** What transformers with hooks makes of patches in a golden model: tools/goldens/patching.py. */
final class PatchingGolden {
  static final List<String> NAMES = List.of("llama3", "llama-bias", "mistral", "qwen3");

  final String name;
  final Path folder;
  final ModelConfig config;
  final List<Case> cases;

  /** A pair and the logits {answer, foil} of its last token under every patch. */
  record Case(Pair pair, JsonNode json) {
    double[] reference() {
      return doubles(json.get("reference"));
    }

    double referenceProbability() {
      return json.get("reference_probability").asDouble();
    }

    /** Path patching to the logits, in the order of {@link PathPatching}'s effects. */
    List<double[]> toLogits(Variant variant, ModelConfig config) {
      return senders(json.get(variant.name().toLowerCase(Locale.ROOT)), config);
    }

    double probability(int layer, int head) {
      return json.get("recompute").get("probability").get(layer).get(head).asDouble();
    }
  }

  /** Cases whose prompts have as many tokens. */
  List<Case> aligned() {
    return cases.stream().filter(one -> one.json.has("grids")).toList();
  }

  PatchingGolden(String name) {
    this.name = name;
    Path golden = Path.of("src/test/resources/goldens", name);
    this.folder = golden.resolve("model");
    this.config = ModelConfig.read(folder);
    try {
      JsonNode file = new ObjectMapper().readTree(golden.resolve("patching.json").toFile());
      this.cases = new ArrayList<>();
      file.get("cases").forEach(json -> cases.add(new Case(pair(json.get("pair")), json)));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static Pair pair(JsonNode json) {
    return new Pair(
        ints(json.get("reference_tokens")),
        ints(json.get("counterfactual_tokens")),
        json.get("answer_token").asInt(),
        OptionalInt.of(json.get("foil_token").asInt()),
        Map.of(),
        null);
  }

  List<Pair> pairs() {
    return cases.stream().map(Case::pair).toList();
  }

  Llama load(Device device, DType type) {
    return Llama.load(folder, device, type, new Llama.Limits(128, 8, 8, 8, 64));
  }

  /** Heads and then the MLP of each layer; null for a sender that was not patched. */
  static List<double[]> senders(JsonNode json, ModelConfig config) {
    List<double[]> all = new ArrayList<>();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      json.get("heads").get(layer).forEach(head -> all.add(doubles(head)));
      all.add(doubles(json.get("mlps").get(layer)));
    }
    return all;
  }

  static double[] doubles(JsonNode json) {
    return json.isNull()
        ? null
        : StreamSupport.stream(json.spliterator(), false).mapToDouble(JsonNode::asDouble).toArray();
  }

  private static int[] ints(JsonNode json) {
    return StreamSupport.stream(json.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }
}
