package dev.halter.cli.heads;

import dev.halter.cli.CostOptions;
import dev.halter.cli.HeadNumbersOptions;
import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.RandomHeadsOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.evaluation.ArithmeticEvaluation;
import dev.halter.evaluation.ControlEvaluation;
import dev.halter.evaluation.ControlEvaluation.Choice;
import dev.halter.evaluation.ControlEvaluation.Report;
import dev.halter.evaluation.ControlEvaluation.Row;
import dev.halter.evaluation.ControlEvaluation.Setting;
import dev.halter.evaluation.ControlTask;
import dev.halter.evaluation.TuningEvaluation;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.model.Head;
import dev.halter.steering.Reach;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "evaluate",
    description = {
      "Puts the claims about heads to a model: on sums, and on behaviours under control.",
      "Takes the heads of sums out, and controls several behaviours, each alone and all at once,",
      "beside random heads and directions (RepE); on prompts that nothing was chosen by, and what it",
      "costs elsewhere. With --part tuning, teaches new sums by tuning few heads."
    })
final class EvaluateCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--suite",
      paramLabel = "F",
      description =
          "Behaviours, other questions and texts, as JSON (default: tasks/controls.json of the"
              + " model's folder).")
  Path suite;

  @Option(
      names = "--part",
      paramLabel = "P",
      split = ",",
      defaultValue = "arithmetic,controls",
      description = "arithmetic, controls, tuning or all (default: ${DEFAULT-VALUE}).")
  List<String> parts;

  @Mixin ArithmeticSection arithmetic;

  @Mixin TuningSection tuning;

  @Option(
      names = "--at",
      paramLabel = "T",
      split = ",",
      defaultValue = "end,answer",
      description =
          "Tokens to try, which controls are fitted on and act on: end (the prompt's last), answer"
              + " (the prompt's last and the answer's) or all (default: ${DEFAULT-VALUE}).")
  List<String> at;

  @Mixin HeadNumbersOptions numbers;

  @Option(
      names = "--method",
      paramLabel = "M",
      split = ",",
      defaultValue = "mean,whiten,transport,pairs",
      description = "Methods to try (default: ${DEFAULT-VALUE}).")
  List<String> methods;

  @Option(
      names = "--strength",
      paramLabel = "X",
      split = ",",
      defaultValue = "0.5,1,1.5,2",
      description = "Strengths and scales to try (default: ${DEFAULT-VALUE}).")
  List<Float> strengths;

  @Option(
      names = "--shrinkage",
      paramLabel = "X",
      defaultValue = "0.1",
      description =
          "Share of the covariances that is made round, 0 to 1 (default: ${DEFAULT-VALUE}).")
  double shrinkage;

  @Mixin CostOptions cost;

  @Mixin RandomHeadsOptions random;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    if (!(shrinkage >= 0 && shrinkage <= 1)) {
      throw new WrongUseException("--shrinkage is " + shrinkage + ", must be 0 to 1");
    }
    if (random.draws < 0) {
      throw new WrongUseException("--draws is " + random.draws + ", must be 0 or more");
    }
    if (!strengths.stream().allMatch(Float::isFinite)) {
      throw new WrongUseException("--strength takes finite numbers");
    }
    for (String part : parts) {
      OptionValue.requireOneOf("--part", part, "arithmetic", "controls", "tuning", "all");
    }
    List<Reach> reaches =
        at.stream().map(name -> OptionValue.of(Reach.class, "--at", name)).distinct().toList();
    numbers.check();
    cost.check();
    arithmetic.check();
    tuning.check();
    List<Method> tried =
        methods.stream().map(name -> OptionValue.of(Method.class, "--method", name)).toList();
    try (LanguageModel model = options.openForPairs()) {
      int heads = model.config().nLayers() * model.config().nHeads();
      Path file = suite == null ? options.folder().resolve("tasks/controls.json") : suite;
      ControlTask.Suite read = ControlTask.read(file, model);
      double mostCost = cost.share(read);
      Consumer<String> progress = step -> System.err.println("evaluate: " + step);
      ArithmeticEvaluation.Report sums =
          has("arithmetic")
              ? arithmetic.run(
                  model,
                  options.folder(),
                  random.draws,
                  random.seed,
                  read.other(),
                  read.texts(),
                  progress)
              : null;
      Setting setting =
          new Setting(
              numbers.of(heads),
              tried,
              strengths,
              shrinkage,
              mostCost,
              reaches,
              random.draws,
              random.seed);
      Report controls =
          has("controls") ? ControlEvaluation.of(model, read, setting, progress) : null;
      TuningEvaluation.Report tuned =
          has("tuning")
              ? tuning.run(
                  model,
                  options,
                  arithmetic.sums.templates(options.folder()),
                  arithmetic.sums.count,
                  random.draws,
                  random.seed,
                  read.other(),
                  read.texts(),
                  progress)
              : null;
      if (output.isJson()) {
        Map<String, Object> document = Json.object();
        if (sums != null) {
          document.put("arithmetic", ArithmeticSection.document(sums));
        }
        if (controls != null) {
          document.put("controls", document(read, controls));
        }
        if (tuned != null) {
          document.put("tuning", TuningSection.document(tuned));
        }
        output.print(document);
        return 0;
      }
      if (sums != null) {
        ArithmeticSection.print(sums, heads);
        System.out.println();
      }
      if (controls != null) {
        print(read, controls, heads);
      }
      if (tuned != null) {
        if (controls != null) {
          System.out.println();
        }
        TuningSection.print(tuned, heads);
      }
      return 0;
    }
  }

  private boolean has(String part) {
    return parts.contains(part) || parts.contains("all");
  }

  private static Map<String, Object> document(ControlTask.Suite suite, Report report) {
    List<Object> rows = new ArrayList<>();
    for (Row row : report.rows()) {
      Map<String, Object> object = Json.object("control", row.name());
      for (int i = 0; i < row.tasks().length; i++) {
        object.put(suite.tasks().get(i).name(), row.tasks()[i]);
      }
      object.put("other", row.other());
      object.put("perplexity", row.perplexity());
      rows.add(object);
    }
    return Json.object(
        "chosen",
        choices(report.choices()),
        "overlaps",
        overlaps(suite, report),
        "contested",
        names(report.contested()),
        "apart",
        choices(report.apart()),
        "joint",
        report.joint(),
        "rows",
        rows);
  }

  private static List<Object> choices(List<Choice> choices) {
    List<Object> objects = new ArrayList<>();
    for (Choice choice : choices) {
      objects.add(
          Json.object(
              "task", choice.task(),
              "heads", names(choice.heads()),
              "at", choice.reach().name().toLowerCase(Locale.ROOT),
              "method", choice.method().name().toLowerCase(Locale.ROOT),
              "strength", choice.strength(),
              "train_before", choice.before(),
              "train_after", choice.after(),
              "train_cost", choice.cost()));
    }
    return objects;
  }

  private static List<Object> overlaps(ControlTask.Suite suite, Report report) {
    List<Object> overlaps = new ArrayList<>();
    for (int i = 0; i < suite.tasks().size(); i++) {
      for (int j = i + 1; j < suite.tasks().size(); j++) {
        overlaps.add(
            Json.object(
                "tasks", List.of(suite.tasks().get(i).name(), suite.tasks().get(j).name()),
                "overlap", report.overlaps().get(overlaps.size())));
      }
    }
    return overlaps;
  }

  private static List<String> names(List<Head> heads) {
    return heads.stream().map(Head::toString).toList();
  }

  private static void print(Choice choice) {
    System.out.printf(
        "%-12s %7.1f%% %7.1f%% %8s   %s%n",
        choice.task(),
        100 * choice.before(),
        100 * choice.after(),
        ArithmeticSection.percent(choice.cost()),
        choice.heads().isEmpty()
            ? "no heads"
            : "%s at %s, strength %s, heads %s"
                .formatted(
                    choice.method().name().toLowerCase(Locale.ROOT),
                    choice.reach().name().toLowerCase(Locale.ROOT),
                    choice.strength(),
                    String.join(" ", names(choice.heads()))));
  }

  private static void print(ControlTask.Suite suite, Report report, int heads) {
    System.out.printf(
        "controls: chosen on training prompts, of %d heads%n%-12s %8s %8s %8s   %s%n",
        heads, "", "before", "after", "cost", "control");
    report.choices().forEach(EvaluateCommand::print);
    System.out.printf(
        "contested heads: %s%n",
        report.contested().isEmpty() ? "none" : String.join(" ", names(report.contested())));
    System.out.printf("apart: chosen one after the other, by all tasks' training prompts%n");
    report.apart().forEach(EvaluateCommand::print);
    System.out.printf(
        "best of all on training prompts: %s%n%n%-28s", report.joint(), "on test prompts");
    for (ControlTask task : suite.tasks()) {
      System.out.printf(" %11s", task.name());
    }
    System.out.printf(" %8s %10s%n%-28s", "other", "perplexity", "");
    for (ControlTask task : suite.tasks()) {
      System.out.printf(" %11s", task.measure());
    }
    System.out.printf(" %8s%n", "right");
    for (Row row : report.rows()) {
      System.out.printf("%-28s", row.name());
      for (double share : row.tasks()) {
        System.out.printf(" %11s", ArithmeticSection.percent(share));
      }
      System.out.printf(
          " %8s %10s%n",
          ArithmeticSection.percent(row.other()), ArithmeticSection.perplexity(row.perplexity()));
    }
  }
}
