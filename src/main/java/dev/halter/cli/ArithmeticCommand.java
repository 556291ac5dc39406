package dev.halter.cli;

import dev.halter.evaluation.Arithmetic;
import dev.halter.evaluation.ArithmeticClaims;
import dev.halter.evaluation.ControlTask;
import dev.halter.evaluation.ControlTask.Suite;
import dev.halter.generation.LanguageModel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "arithmetic",
    description = "Puts the claims about the heads of sums to a model (2409.01659).")
final class ArithmeticCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--templates",
      paramLabel = "F",
      description =
          "Templates of sums (default: tasks/arithmetic.json of the model's folder, or the 36 that"
              + " ship).")
  Path templates;

  @Option(
      names = "--suite",
      paramLabel = "F",
      description =
          "Other questions and texts, as of halter heads evaluate (default: tasks/controls.json of"
              + " the model's folder, if it is there).")
  Path suite;

  @Option(
      names = "--sums",
      paramLabel = "N",
      defaultValue = "200",
      description =
          "Sums to find heads with, and as many to measure with (default: ${DEFAULT-VALUE}).")
  int sums;

  @Option(
      names = "--draws",
      paramLabel = "N",
      defaultValue = "3",
      description = "Draws of random heads (default: ${DEFAULT-VALUE}).")
  int draws;

  @Option(names = "--tuning", description = "Tune heads too; takes minutes.")
  boolean tuning;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  long seed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    if (sums < 2) {
      throw new WrongUseException("--sums is " + sums + ", must be 2 or more");
    }
    OptionValue.requireAtLeastOne("--draws", draws);
    try (LanguageModel model = options.openForPairs()) {
      Arithmetic arithmetic =
          templates == null ? Arithmetic.ofModel(options.folder()) : Arithmetic.read(templates);
      ClaimsOutput.print(
          output,
          "Zhang et al., Interpreting and improving large language models in arithmetic calculation"
              + " (arXiv 2409.01659)",
          model,
          ArithmeticClaims.of(
              model,
              arithmetic,
              suite(model),
              new ArithmeticClaims.Tried(sums, draws, tuning, seed),
              options::openForPairs,
              step -> System.err.println("evaluate: " + step)));
      return 0;
    }
  }

  private Suite suite(LanguageModel model) {
    Path file = suite == null ? options.folder().resolve("tasks/controls.json") : suite;
    return suite == null && !Files.exists(file)
        ? new Suite(List.of(), List.of(), List.of())
        : ControlTask.read(file, model);
  }
}
