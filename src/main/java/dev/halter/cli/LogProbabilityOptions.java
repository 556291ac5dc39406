package dev.halter.cli;

import dev.halter.generation.LogProbabilities;
import dev.halter.generation.RequestJson;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;

/** Which log-probabilities are told. */
final class LogProbabilityOptions {
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

  /** As these say. */
  RequestJson.Told told() {
    requireInRange("--logprobs", logprobs);
    requireInRange("--prompt-logprobs", promptLogprobs);
    try {
      return new RequestJson.Told(logprobs, promptLogprobs, tokens);
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
}
