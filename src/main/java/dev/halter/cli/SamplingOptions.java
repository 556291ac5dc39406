package dev.halter.cli;

import dev.halter.generation.Sampling;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
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
}
