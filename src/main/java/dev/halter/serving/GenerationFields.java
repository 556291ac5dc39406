package dev.halter.serving;

import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Sampling;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;

/**
 * The fields that say how answers are made, of completions and of chats.
 *
 * @param maxTokens most tokens to generate; -1 where the request does not say
 * @param choices answers to each prompt
 * @param isSeeded whether the request brings a seed; else each answer draws by one of chance
 * @param stops texts that end an answer
 * @param includesStop whether the text that ends an answer is a part of it
 * @param stopTokens that end an answer beside the model's own
 * @param ignoresEnd whether the model's own end nothing
 * @param skipsSpecial whether special tokens are left out of the text
 * @param includesUsage whether a stream ends with an event that holds the usage
 * @param tellsIds whether answers hold the ids of their tokens
 * @param namesIds whether log-probabilities call tokens {@code token_id:N}
 * @param tellsPrompt whether answers hold the log-probabilities of the prompt, {@code
 *     prompt_logprobs}
 * @param requestId what the client calls the request; null for one of chance
 * @param cacheSalt with requests of which beginnings are shared, {@link
 *     dev.halter.generation.Request#cacheSalt}; null for those of none
 */
record GenerationFields(
    int maxTokens,
    int minTokens,
    int choices,
    Sampling sampling,
    boolean isSeeded,
    List<String> stops,
    boolean includesStop,
    Set<Integer> stopTokens,
    boolean ignoresEnd,
    boolean skipsSpecial,
    boolean isStream,
    boolean includesUsage,
    boolean tellsIds,
    boolean namesIds,
    boolean tellsPrompt,
    LogProbabilities logProbabilities,
    String requestId,
    String cacheSalt) {
  private static final int MOST_CHOICES = 128;
  private static final int MOST_STOPS = 64;
  private static final Pattern REQUEST_ID = Pattern.compile("[A-Za-z0-9._:-]{1,256}");

  /**
   * What would change an answer and is not done: an error, since to leave it out would be wrong.
   */
  private static final List<String> NOT_SERVED =
      List.of(
          "suffix",
          "bad_words",
          "structured_outputs",
          "guided_json",
          "guided_regex",
          "guided_choice",
          "guided_grammar",
          "use_beam_search",
          "truncate_prompt_tokens",
          "prompt_embeds",
          "functions",
          "steer_vector_request"); // EasySteer's before it had "steering"

  /**
   * Reads them.
   *
   * @param maxTokensFields names of the limit, of which the first that is there counts
   * @param top likeliest tokens that log-probabilities tell at each place, -1 for none
   * @param echo whether they do so at the places of the prompt too
   * @param vocabulary tokens of the model
   */
  static GenerationFields read(
      Fields fields, List<String> maxTokensFields, int top, boolean echo, int vocabulary) {
    refuseWhatIsNotServed(fields);
    int maxTokens = -1;
    for (String field : maxTokensFields) {
      int said = fields.integer(field, 0, Integer.MAX_VALUE, -1);
      maxTokens = maxTokens < 0 ? said : maxTokens;
    }
    int choices = fields.integer("n", 1, MOST_CHOICES, 1);
    if (fields.integer("best_of", 1, MOST_CHOICES, choices) > choices) {
      throw fields.wrong("best_of", "at most n: no answers are made that are not given");
    }
    boolean isStream = fields.flag("stream", false);
    boolean includesUsage = false;
    if (fields.has("stream_options")) {
      if (!isStream) {
        throw fields.wrong("stream_options", "left out where \"stream\" is not true");
      }
      includesUsage =
          Fields.read(
              "stream_options", () -> fields.object("stream_options").flag("include_usage", false));
    }
    int told = fields.integer("prompt_logprobs", 0, LogProbabilities.MOST, -1);
    int prompt = Math.max(told, echo ? top : -1);
    if (isStream && prompt >= 0) {
      throw ApiError.badRequest(
          "stream", "log-probabilities of the prompt cannot be streamed: leave \"stream\" out");
    }
    List<Integer> named = fields.tokens("logprob_token_ids", vocabulary);
    if (named.size() > LogProbabilities.MOST) {
      throw fields.wrong(
          "logprob_token_ids", "a list of at most " + LogProbabilities.MOST + " ids");
    }
    return new GenerationFields(
        maxTokens,
        fields.integer("min_tokens", 0, Integer.MAX_VALUE, 0),
        choices,
        sampling(fields, vocabulary),
        fields.has("seed"),
        stops(fields),
        fields.flag("include_stop_str_in_output", false),
        new LinkedHashSet<>(fields.tokens("stop_token_ids", vocabulary)),
        fields.flag("ignore_eos", false),
        fields.flag("skip_special_tokens", true),
        isStream,
        includesUsage,
        fields.flag("return_token_ids", false),
        fields.flag("return_tokens_as_token_ids", false),
        told >= 0,
        new LogProbabilities(Math.max(0, top), prompt, named),
        requestId(fields),
        cacheSalt(fields));
  }

  private static String requestId(Fields fields) {
    String id = fields.text("request_id", null);
    if (id != null && !REQUEST_ID.matcher(id).matches()) {
      throw fields.wrong("request_id", "of 1 to 256 letters, digits, '.', '_', ':' and '-'");
    }
    return id;
  }

  private static String cacheSalt(Fields fields) {
    String salt = fields.text("cache_salt", null);
    if (salt != null && salt.isEmpty()) {
      throw fields.wrong("cache_salt", "a text that is not empty");
    }
    return salt;
  }

  private static void refuseWhatIsNotServed(Fields fields) {
    for (String field : NOT_SERVED) {
      if (fields.has(field)
          && !Boolean.FALSE.equals(fields.value(field))
          && !"".equals(fields.value(field))
          && !List.of().equals(fields.value(field))) {
        throw ApiError.badRequest(field, "\"" + field + "\" is not served here: leave it out");
      }
    }
    if (fields.integer("priority", Integer.MIN_VALUE, Integer.MAX_VALUE, 0) != 0) { // as vLLM does
      throw fields.wrong("priority", "0: requests are served in the order in which they came");
    }
    if (fields.has("response_format")
        && !"text".equals(fields.object("response_format").value("type"))) {
      throw fields.wrong("response_format", "{\"type\": \"text\"}: no other format is served here");
    }
  }

  private static Sampling sampling(Fields fields, int vocabulary) {
    float topP = fields.number("top_p", 0, 1, 1);
    if (topP == 0) {
      throw fields.wrong("top_p", "above 0");
    }
    float repetition = fields.number("repetition_penalty", 0, 1e3, 1);
    if (repetition == 0) {
      throw fields.wrong("repetition_penalty", "above 0");
    }
    List<Integer> allowed = fields.tokens("allowed_token_ids", vocabulary);
    if (fields.has("allowed_token_ids") && allowed.isEmpty()) {
      throw fields.wrong("allowed_token_ids", "a list of at least one id");
    }
    return new Sampling(
        fields.number("temperature", 0, 1e3, 1),
        Math.max(0, fields.integer("top_k", -1, Integer.MAX_VALUE, 0)),
        topP,
        fields.number("min_p", 0, 1, 0),
        repetition,
        fields.number("presence_penalty", -2, 2, 0),
        fields.number("frequency_penalty", -2, 2, 0),
        logitBias(fields, vocabulary),
        new HashSet<>(allowed),
        fields.seed("seed", 0));
  }

  private static Map<Integer, Float> logitBias(Fields fields, int vocabulary) {
    Map<Integer, Float> bias = new HashMap<>();
    switch (fields.value("logit_bias")) {
      case null -> {}
      case Map<?, ?> given -> {
        for (Map.Entry<?, ?> entry : given.entrySet()) {
          String id = (String) entry.getKey();
          if (!id.matches("\\d{1,9}")
              || Integer.parseInt(id) >= vocabulary
              || !(entry.getValue() instanceof Number number)
              || !(Math.abs(number.doubleValue()) <= 100)) {
            throw fields.wrong(
                "logit_bias",
                "an object of numbers from -100 to 100 by ids of tokens, 0 to " + (vocabulary - 1));
          }
          bias.put(Integer.parseInt(id), number.floatValue());
        }
      }
      default -> throw fields.wrong("logit_bias", "an object of numbers by ids of tokens");
    }
    return bias;
  }

  private static List<String> stops(Fields fields) {
    List<String> stops = fields.texts("stop");
    if (stops.size() > MOST_STOPS || stops.contains("")) {
      throw fields.wrong("stop", "a text or up to " + MOST_STOPS + " texts, none of them empty");
    }
    return stops;
  }

  /** The same, drawing by a seed that an id decides if the request brings none. */
  GenerationFields seeded(long seed, String id) {
    return isSeeded
        ? this
        : new GenerationFields(
            maxTokens,
            minTokens,
            choices,
            sampling.withSeed(seed).forId(id),
            true,
            stops,
            includesStop,
            stopTokens,
            ignoresEnd,
            skipsSpecial,
            isStream,
            includesUsage,
            tellsIds,
            namesIds,
            tellsPrompt,
            logProbabilities,
            requestId,
            cacheSalt);
  }

  /** How the answer of this number to a prompt draws; the first as one alone would. */
  Sampling sampling(int choice) {
    if (!isSeeded) {
      return sampling.withSeed(ThreadLocalRandom.current().nextLong());
    }
    return choice == 0 ? sampling : sampling.forId("choice " + choice);
  }

  /** The tokens that end an answer. */
  Set<Integer> stopTokens(Set<Integer> modelsOwn) {
    Set<Integer> all = new LinkedHashSet<>(stopTokens);
    if (!ignoresEnd) {
      all.addAll(modelsOwn);
    }
    return all;
  }

  /** Whether {@link Choice} must look at each token when it comes. */
  boolean watches() {
    return !stops.isEmpty();
  }
}
