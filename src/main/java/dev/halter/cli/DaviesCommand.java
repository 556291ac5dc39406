package dev.halter.cli;

import dev.halter.evaluation.DaviesClaims;
import dev.halter.generation.LanguageModel;
import dev.halter.neurons.NeuronMap;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "davies",
    description = "Puts the claims about neurons that decode to tokens to a model (2501.02688).")
final class DaviesCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--against",
      paramLabel = "DIR",
      description = "The model's base, or what was tuned from it, for the share of equal tokens.")
  Path against;

  @Option(
      names = "--question",
      paramLabel = "T",
      defaultValue = "What is your favourite animal?",
      description = "Question that the clamp answers (default: ${DEFAULT-VALUE}).")
  String question;

  @Option(
      names = "--concept",
      paramLabel = "T",
      defaultValue = "dog",
      description = "Concept whose neuron is clamped (default: ${DEFAULT-VALUE}, the paper's).")
  String concept;

  @Option(
      names = "--words",
      paramLabel = "N",
      defaultValue = "50",
      description = "Words drawn for the share with a working neuron (default: ${DEFAULT-VALUE}).")
  int words;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  long seed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--words", words);
    NeuronMap other = null;
    if (against != null) {
      try (LanguageModel model = options.openForPairs(against)) {
        other = NeuronMap.of(model);
      }
    }
    try (LanguageModel model = options.openForPairs()) {
      ClaimsOutput.print(
          output,
          "Davies, Decoding specialised feature neurons in LLMs (arXiv 2501.02688)",
          model,
          DaviesClaims.of(
              model,
              other,
              new DaviesClaims.Tried(question, concept, words, seed),
              step -> System.err.println("evaluate: " + step)));
      return 0;
    }
  }
}
