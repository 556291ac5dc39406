package dev.halter.generation;

import dev.halter.files.JsonObject;
import dev.halter.steering.PlanCache;
import dev.halter.text.Message;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;

/**
 * Requests as JSON objects state them: lines of {@code halter batch}, rows of a Spark dataset.
 *
 * <pre>{"id", "prompt"|"messages"|"tokens", "plan"?, "max_tokens"?, "temperature"?, …}</pre>
 *
 * <p>What an object leaves out is as this says.
 *
 * @param maxTokens most tokens to generate
 * @param minTokens before so many no stop token can be chosen
 * @param ignoreEos whether the end that the model gives is none
 * @param sampling how tokens are chosen; an object without a seed draws by {@link Sampling#forId}
 * @param told which log-probabilities are told
 */
public record RequestJson(
    int maxTokens, int minTokens, boolean ignoreEos, Sampling sampling, Told told) {
  /** Keys that hold the prompt, of which an object has one. */
  public static final List<String> PROMPTS = List.of("prompt", "messages", "tokens");

  /** Keys beside the id and the prompt. */
  public static final List<String> KEYS =
      List.of(
          "plan",
          "max_tokens",
          "min_tokens",
          "ignore_eos",
          "temperature",
          "top_p",
          "top_k",
          "min_p",
          "repetition_penalty",
          "presence_penalty",
          "frequency_penalty",
          "logit_bias",
          "allowed_token_ids",
          "seed",
          "logprobs",
          "prompt_logprobs",
          "logprob_token_ids");

  /** Greedy, up to {@link Request#MAX_TOKENS} tokens, with no log-probabilities. */
  public static final RequestJson DEFAULT =
      new RequestJson(Request.MAX_TOKENS, 0, false, Sampling.GREEDY, new Told(-1, -1, List.of()));

  /**
   * Log-probabilities that a document of a result tells.
   *
   * @param isAny whether the answer's tokens are told of
   */
  public record Told(boolean isAny, LogProbabilities wanted) {
    /**
     * @param top likeliest tokens at the place of each token of the answer; -1 for nothing of them
     * @param prompt likeliest tokens at the place of each token of the prompt; -1 likewise
     * @param tokens told at each place that is told of
     */
    public Told(int top, int prompt, List<Integer> tokens) {
      this(top >= 0 || !tokens.isEmpty(), new LogProbabilities(Math.max(0, top), prompt, tokens));
    }

    /** As an object says, and else as this. */
    Told of(JsonObject json) {
      return new Told(
          json.integer("logprobs", 0, LogProbabilities.MOST, isAny ? wanted.top() : -1),
          json.integer("prompt_logprobs", 0, LogProbabilities.MOST, wanted.prompt()),
          json.has("logprob_token_ids") ? json.integers("logprob_token_ids") : wanted.tokens());
    }
  }

  /** The same with tokens chosen otherwise. */
  public RequestJson with(Sampling newSampling) {
    return new RequestJson(maxTokens, minTokens, ignoreEos, newSampling, told);
  }

  /**
   * The request of an object.
   *
   * @param id of it, which decides its draws if it has no seed
   * @throws IllegalArgumentException saying what of it is none
   */
  public Request request(JsonObject json, String id, LanguageModel model, PlanCache plans) {
    return model
        .request(prompt(json, model))
        .withId(id)
        .withMaxTokens(json.integer("max_tokens", 0, Integer.MAX_VALUE, maxTokens))
        .with(sampling(json, id))
        .with(plans.of(json))
        .with(told.of(json).wanted())
        .withEnding(
            json.integer("min_tokens", 0, Integer.MAX_VALUE, minTokens),
            json.flag("ignore_eos", ignoreEos));
  }

  /** Whether a result of the object tells of the answer's tokens. */
  public boolean tellsLogProbabilities(JsonObject json) {
    return told.of(json).isAny();
  }

  /**
   * The prompt's tokens.
   *
   * @throws IllegalArgumentException if the object has not exactly one prompt
   */
  public static int[] prompt(JsonObject json, LanguageModel model) {
    if (PROMPTS.stream().filter(json::has).count() != 1) {
      throw new IllegalArgumentException("must have exactly one of " + String.join(", ", PROMPTS));
    }
    if (json.has("prompt")) {
      return model.encode(json.text("prompt"));
    }
    return json.has("messages")
        ? model.encode(Message.list(json))
        : json.integers("tokens").stream().mapToInt(Integer::intValue).toArray();
  }

  Sampling sampling(JsonObject json, String id) {
    Sampling seeded = json.has("seed") ? sampling.withSeed(seed(json)) : sampling.forId(id);
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
