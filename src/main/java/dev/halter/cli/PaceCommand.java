package dev.halter.cli;

import dev.halter.evaluation.PaceClaims;
import dev.halter.evaluation.RemovalEvaluation;
import dev.halter.evaluation.RemovalTask;
import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.List;
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

  @Option(
      names = "--dictionary",
      paramLabel = "D",
      description =
          "Concept dictionary of hook_resid_post (default: made of concepts/stimuli.jsonl of the"
              + " model's folder, all layers).")
  Path dictionary;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Path shipped = options.folder().resolve("concepts");
    Consumer<String> progress = step -> System.err.println("evaluate: " + step);
    try (LanguageModel model = options.openForPairs()) {
      RemovalTask task =
          RemovalTask.read(removal == null ? shipped.resolve("removal.json") : removal, model);
      List<RemovalEvaluation.Row> rows =
          dictionary == null
              ? RemovalEvaluation.ofStimuli(model, shipped.resolve("stimuli.jsonl"), task, progress)
              : new RemovalEvaluation(model, dictionary, task).run(progress);
      ClaimsOutput.print(
          output,
          "Luo et al., PaCE: parsimonious concept engineering (arXiv 2406.04331)",
          model,
          PaceClaims.of(task, rows));
      return 0;
    }
  }
}
