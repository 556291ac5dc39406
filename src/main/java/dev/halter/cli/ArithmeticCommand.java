package dev.halter.cli;

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

  @Mixin SumsOptions sums;

  @Option(
      names = "--suite",
      paramLabel = "F",
      description =
          "Other questions and texts, as of halter heads evaluate (default: tasks/controls.json of"
              + " the model's folder, if it is there).")
  Path suite;

  @Mixin RandomHeadsOptions random;

  @Option(names = "--tuning", description = "Tune heads too; takes minutes.")
  boolean tuning;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    sums.check();
    OptionValue.requireAtLeastOne("--draws", random.draws);
    try (LanguageModel model = options.openForPairs()) {
      ClaimsOutput.print(
          output,
          "Zhang et al., Interpreting and improving large language models in arithmetic calculation"
              + " (arXiv 2409.01659)",
          model,
          ArithmeticClaims.of(
              model,
              sums.templates(options.folder()),
              suite(model),
              new ArithmeticClaims.Tried(sums.count, random.draws, tuning, random.seed),
              options::openForPairs,
              step -> System.err.println("evaluate: " + step)));
      return 0;
    }
  }

  private Suite suite(LanguageModel model) {
    Path file = suite == null ? options.folder().resolve("tasks/controls.json") : suite;
    return suite == null && !Files.exists(file)
        ? new Suite(List.of(), List.of(), List.of(), List.of())
        : ControlTask.read(file, model);
  }
}
