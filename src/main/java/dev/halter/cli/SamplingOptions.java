package dev.halter.cli;

import dev.halter.generation.Sampling;
import picocli.CommandLine.Option;

/** How tokens are chosen. */
final class SamplingOptions {
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
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  long seed;

  Sampling sampling() {
    try {
      return new Sampling(temperature, topK, topP, seed);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException(e.getMessage());
    }
  }
}
