package dev.halter.cli;

import dev.halter.evaluation.ControlEvaluation;
import dev.halter.evaluation.ControlEvaluation.Setting;
import dev.halter.evaluation.ControlTask;
import dev.halter.evaluation.SacClaims;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.steering.Reach;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "sac",
    description = "Puts the claims about several controlled behaviours to a model (2411.02461).")
final class SacCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--suite",
      paramLabel = "F",
      description =
          "Behaviours, other questions and texts, as of halter heads evaluate (default:"
              + " tasks/controls.json of the model's folder).")
  Path suite;

  @Mixin HeadNumbersOptions numbers;

  @Mixin CostOptions cost;

  @Mixin RandomHeadsOptions random;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    numbers.check();
    cost.check();
    OptionValue.requireAtLeastOne("--draws", random.draws);
    try (LanguageModel model = options.openForPairs()) {
      int heads = model.config().nLayers() * model.config().nHeads();
      Path file = suite == null ? options.folder().resolve("tasks/controls.json") : suite;
      ControlTask.Suite read = ControlTask.read(file, model);
      Setting setting =
          new Setting(
              numbers.of(heads),
              List.of(Method.values()),
              List.of(0.5f, 1f, 1.5f, 2f),
              0.1,
              cost.share(read),
              List.of(Reach.END, Reach.ANSWER),
              random.draws,
              random.seed);
      ControlEvaluation.Report report =
          ControlEvaluation.of(
              model, read, setting, step -> System.err.println("evaluate: " + step));
      ClaimsOutput.print(
          output,
          "Xiao et al., Sparse activation control (arXiv 2411.02461)",
          model,
          SacClaims.of(read, report, heads));
      return 0;
    }
  }
}
