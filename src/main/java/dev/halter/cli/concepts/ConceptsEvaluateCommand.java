package dev.halter.cli.concepts;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.RemovalOptions;
import dev.halter.evaluation.RemovalEvaluation.Row;
import dev.halter.evaluation.RemovalTask;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "evaluate",
    description = {
      "Removes a behaviour in five ways, and measures each on questions held out.",
      "Asking, vector addition, orthogonal projection, OMP and elastic net are each set up on one",
      "half of a task's questions and measured on the other."
    })
final class ConceptsEvaluateCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--task",
      paramLabel = "F",
      description =
          "What to remove, and the questions (default: concepts/removal.json of the model's"
              + " folder).")
  Path task;

  @Mixin RemovalOptions removed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Path folder = options.folder();
    try (LanguageModel model = options.openForPairs()) {
      RemovalTask read =
          RemovalTask.read(task == null ? folder.resolve("concepts/removal.json") : task, model);
      Consumer<String> progress = step -> System.err.println("evaluate: " + step);
      List<Row> rows = removed.evaluate(model, folder, read, progress);
      if (output.isJson()) {
        output.print(document(read, rows));
      } else {
        print(read, rows);
      }
      return 0;
    }
  }

  private static Object document(RemovalTask task, List<Row> rows) {
    List<Object> methods = new ArrayList<>();
    for (Row row : rows) {
      methods.add(
          Json.object(
              "method", row.method(),
              "setting", row.setting(),
              "behaviour", row.behaviour(),
              "plain", row.plain(),
              "perplexity", row.perplexity(),
              "unrelated", row.unrelated(),
              "example", row.example()));
    }
    return Json.object(
        "remove",
        task.remove(),
        "behaviour_questions",
        task.behaviour().size() / 2,
        "unrelated_questions",
        task.unrelated().size() / 2,
        "methods",
        methods);
  }

  private static void print(RemovalTask task, List<Row> rows) {
    System.out.printf(
        "%s removed; %d questions that bring the behaviour out, %d unrelated ones%n",
        String.join(", ", task.remove()), task.behaviour().size() / 2, task.unrelated().size() / 2);
    System.out.printf(
        "%-22s %9s %7s %10s %9s  %s%n",
        "method", "behaviour", "plain", "perplexity", "unrelated", "setting");
    for (Row row : rows) {
      System.out.printf(
          "%-22s %8.1f%% %6.1f%% %10.2f %8.1f%%  %s%n",
          row.method(),
          100 * row.behaviour(),
          100 * row.plain(),
          row.perplexity(),
          100 * row.unrelated(),
          row.setting());
    }
    System.out.printf("%nanswers to the first question:%n");
    rows.forEach(row -> System.out.printf("%-22s %s%n", row.method(), row.example()));
  }
}
