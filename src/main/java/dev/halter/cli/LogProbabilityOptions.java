package dev.halter.cli;

import dev.halter.files.JsonObject;
import dev.halter.generation.LogProbabilities;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;

/** Which log-probabilities are told, by options and by a line's own keys. */
final class LogProbabilityOptions {
  /** Keys of a line. */
  static final List<String> KEYS = List.of("logprobs", "prompt_logprobs", "logprob_token_ids");

  @Option(
      names = "--logprobs",
      paramLabel = "N",
      defaultValue = "-1",
      description =
          "Tell the log-probability of each token, and those of the N likeliest, in JSON \"logprobs\""
              + " (default: none).")
  private int logprobs;

  @Option(
      names = "--prompt-logprobs",
      paramLabel = "N",
      defaultValue = "-1",
      description =
          "The same of the prompt's tokens, in JSON \"prompt_logprobs\", whose first is null"
              + " (default: none).")
  private int promptLogprobs;

  @Option(
      names = "--logprob-tokens",
      paramLabel = "ID",
      split = ",",
      description = "Tell those of these tokens too, at each place that is told of.")
  private List<Integer> tokens = new ArrayList<>();

  /**
   * What is told.
   *
   * @param isAny whether the answer's tokens are told of
   */
  record Told(boolean isAny, LogProbabilities wanted) {
    private Told(int top, int prompt, List<Integer> tokens) {
      this(top >= 0 || !tokens.isEmpty(), new LogProbabilities(Math.max(0, top), prompt, tokens));
    }
  }

  /** As these say. */
  Told told() {
    requireInRange("--logprobs", logprobs);
    requireInRange("--prompt-logprobs", promptLogprobs);
    try {
      return new Told(logprobs, promptLogprobs, tokens);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException(e.getMessage());
    }
  }

  private static void requireInRange(String option, int count) {
    if (count < -1 || count > LogProbabilities.MOST) {
      throw new WrongUseException(
          option + " is " + count + ", must be 0 to " + LogProbabilities.MOST);
    }
  }

  /** As a line says, and else as these. */
  Told told(JsonObject json) {
    return new Told(
        json.integer("logprobs", 0, LogProbabilities.MOST, logprobs),
        json.integer("prompt_logprobs", 0, LogProbabilities.MOST, promptLogprobs),
        json.has("logprob_token_ids") ? json.integers("logprob_token_ids") : tokens);
  }
}
