package dev.halter.cli;

import picocli.CommandLine.Option;

/** When an answer may end. */
final class EndingOptions {
  @Option(
      names = "--min-tokens",
      paramLabel = "N",
      defaultValue = "0",
      description = "No end before so many tokens (default: ${DEFAULT-VALUE}).")
  int minTokens;

  @Option(
      names = "--ignore-eos",
      description = "Go on to --max-tokens, whatever the model takes for the end.")
  boolean ignoreEos;

  /** Refuses a number that no request takes. */
  void check() {
    if (minTokens < 0) {
      throw new WrongUseException("--min-tokens is " + minTokens + ", must be 0 or more");
    }
  }
}
