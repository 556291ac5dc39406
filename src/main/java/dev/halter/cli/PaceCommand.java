package dev.halter.cli;

import dev.halter.evaluation.PaceClaims;
import dev.halter.evaluation.RemovalTask;
import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "pace",
    description = "Puts the claims about removed concepts to a model (2406.04331).")
final class PaceCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--removal",
      paramLabel = "F",
      description =
          "What to remove, and the questions, as of halter concepts evaluate (default:"
              + " concepts/removal.json of the model's folder).")
  Path removal;

  @Mixin RemovalOptions removed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Path folder = options.folder();
    Consumer<String> progress = step -> System.err.println("evaluate: " + step);
    try (LanguageModel model = options.openForPairs()) {
      RemovalTask task =
          RemovalTask.read(
              removal == null ? folder.resolve("concepts/removal.json") : removal, model);
      ClaimsOutput.print(
          output,
          "Luo et al., PaCE: parsimonious concept engineering (arXiv 2406.04331)",
          model,
          PaceClaims.of(task, removed.evaluate(model, folder, task, progress)));
      return 0;
    }
  }
}
