package dev.halter.cli;

import dev.halter.files.JsonObject;
import dev.halter.generation.Sampling;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;
import picocli.CommandLine.Option;

/** How tokens are chosen, by options and by a line's own keys. */
final class SamplingOptions {
  /** Keys of a line. */
  static final List<String> KEYS =
      List.of(
          "temperature",
          "top_p",
          "top_k",
          "min_p",
          "repetition_penalty",
          "presence_penalty",
          "frequency_penalty",
          "logit_bias",
          "allowed_token_ids",
          "seed");

  @Option(
      names = "--temperature",
      paramLabel = "X",
      defaultValue = "0",
      description = "0 = greedy (default).")
  float temperature;

  @Option(
      names = "--top-p",
      paramLabel = "X",
      defaultValue = "1",
      description = "1 = all (default).")
  float topP;

  @Option(
      names = "--top-k",
      paramLabel = "N",
      defaultValue = "0",
      description = "0 = all (default).")
  int topK;

  @Option(
      names = "--min-p",
      paramLabel = "X",
      defaultValue = "0",
      description = "Least share of the likeliest token's probability; 0 = all (default).")
  float minP;

  @Option(
      names = "--repetition-penalty",
      paramLabel = "X",
      defaultValue = "1",
      description =
          "For tokens of prompt and answer, as in transformers; 1 = none (default), above 1 = less"
              + " repetition.")
  float repetitionPenalty;

  @Option(
      names = "--presence-penalty",
      paramLabel = "X",
      defaultValue = "0",
      description = "For tokens of the answer, as OpenAI's; 0 = none (default).")
  float presencePenalty;

  @Option(
      names = "--frequency-penalty",
      paramLabel = "X",
      defaultValue = "0",
      description = "For tokens of the answer, each time, as OpenAI's; 0 = none (default).")
  float frequencyPenalty;

  @Option(
      names = "--logit-bias",
      paramLabel = "ID=X",
      split = ",",
      description = "Add X to the logit of a token; ids are those of halter tokens.")
  Map<Integer, Float> logitBias = new LinkedHashMap<>();

  @Option(
      names = "--allowed-tokens",
      paramLabel = "ID",
      split = ",",
      description = "Choose among these tokens alone (default: all).")
  Set<Integer> allowedTokens = new LinkedHashSet<>();

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  long seed;

  Sampling sampling() {
    try {
      return new Sampling(
          temperature,
          topK,
          topP,
          minP,
          repetitionPenalty,
          presencePenalty,
          frequencyPenalty,
          logitBias,
          allowedTokens,
          seed);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException(e.getMessage());
    }
  }

  /**
   * As a line says, and else as {@code otherwise}.
   *
   * @param id of the line: one without a seed draws by a stream of its own
   */
  static Sampling of(JsonObject json, String id, Sampling otherwise) {
    Sampling seeded = json.has("seed") ? otherwise.withSeed(seed(json)) : otherwise.forId(id);
    return new Sampling(
        number(json, "temperature", 0, 1e6, seeded::temperature),
        json.integer("top_k", 0, Integer.MAX_VALUE, seeded.topK()),
        number(json, "top_p", 0, 1, seeded::topP),
        number(json, "min_p", 0, 1, seeded::minP),
        number(json, "repetition_penalty", 0, 1e6, seeded::repetitionPenalty),
        number(json, "presence_penalty", -1e6, 1e6, seeded::presencePenalty),
        number(json, "frequency_penalty", -1e6, 1e6, seeded::frequencyPenalty),
        json.has("logit_bias") ? bias(json) : seeded.logitBias(),
        json.has("allowed_token_ids") ? allowed(json) : seeded.allowedTokens(),
        seeded.seed());
  }

  private static float number(
      JsonObject json, String key, double min, double max, Supplier<Float> otherwise) {
    return (float) json.number(key, min, max, otherwise.get());
  }

  /** Whole numbers up to 2^53, which every writer of JSON keeps exactly. */
  private static long seed(JsonObject json) {
    double seed = json.number("seed", -0x1p53, 0x1p53);
    if (seed != Math.rint(seed)) {
      throw json.wrong("seed", "an integer");
    }
    return (long) seed;
  }

  /** {@code {"262": -100}}, as OpenAI has it. */
  private static Map<Integer, Float> bias(JsonObject json) {
    JsonObject given = json.object("logit_bias");
    Map<Integer, Float> bias = new LinkedHashMap<>();
    for (String token : given.keys()) {
      if (!token.matches("\\d{1,9}")) {
        throw json.wrong("logit_bias", "an object whose keys are token ids");
      }
      bias.put(Integer.valueOf(token), (float) given.number(token, -1e9, 1e9));
    }
    return bias;
  }

  private static Set<Integer> allowed(JsonObject json) {
    Set<Integer> allowed = new LinkedHashSet<>(json.integers("allowed_token_ids"));
    if (allowed.isEmpty()) {
      throw json.wrong("allowed_token_ids", "a list of at least one token id");
    }
    return allowed;
  }
}
