package dev.halter.cli;

import dev.halter.generation.LogProbabilities;
import picocli.CommandLine.Option;

/** Whether the probabilities of tokens are told. */
final class LogProbabilityOptions {
  @Option(
      names = "--logprobs",
      paramLabel = "N",
      defaultValue = "-1",
      description =
          "Tell the log-probability of each token, and those of the N likeliest, in JSON \"logprobs\""
              + " (default: none).")
  private int logprobs;

  /** How many of the likeliest tokens to tell beside the chosen one; -1 = tell none at all. */
  int count() {
    if (logprobs < -1 || logprobs > LogProbabilities.MOST) {
      throw new WrongUseException(
          "--logprobs is " + logprobs + ", must be 0 to " + LogProbabilities.MOST);
    }
    return logprobs;
  }
}
