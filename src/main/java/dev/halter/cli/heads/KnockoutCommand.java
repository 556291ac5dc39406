package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.Knockout;
import dev.halter.model.Head;
import dev.halter.patching.Pair;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "knockout",
    description = {
      "Takes heads out and counts what is still answered rightly, beside random other heads.",
      "As many are drawn. Query heads are taken out one by one: with grouped-query attention their",
      "group's keys and values stay."
    })
final class KnockoutCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Mixin HeadOptions heads;

  @Option(
      names = "--pairs",
      paramLabel = "F",
      required = true,
      description = "Pairs; the answer must follow the reference.")
  Path pairs;

  @Option(
      names = "--also",
      paramLabel = "F",
      description =
          "Questions of other tasks: {\"kind\", \"prompt\"|\"messages\", \"match\", \"answers\"} a"
              + " line.")
  List<Path> also = new ArrayList<>();

  @Option(
      names = "--mode",
      paramLabel = "M",
      defaultValue = "mean",
      description =
          "What takes the heads' place: zero, mean (over prompts) or resample (from another prompt's"
              + " end) (default: ${DEFAULT-VALUE}).")
  String mode;

  @Option(
      names = "--at",
      paramLabel = "T",
      description =
          "Tokens that lose the heads: all, or end: the prompt's last and the answer's"
              + " (default: all; end for resample).")
  String at;

  @Option(
      names = "--mean-over",
      paramLabel = "P",
      defaultValue = "reference",
      description =
          "Prompts that means and samples are taken from: reference or counterfactual"
              + " (default: ${DEFAULT-VALUE}).")
  String over;

  @Option(
      names = "--draws",
      paramLabel = "N",
      defaultValue = "10",
      description = "Draws of random other heads (default: ${DEFAULT-VALUE}).")
  int draws;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  long seed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireOneOf("--mode", mode, "zero", "mean", "resample");
    OptionValue.requireOneOf("--mean-over", over, "reference", "counterfactual");
    String tokens = at == null ? mode.equals("resample") ? "end" : "all" : at;
    OptionValue.requireOneOf("--at", tokens, "all", "end");
    if (mode.equals("resample") && tokens.equals("all")) {
      throw new WrongUseException("--mode resample replaces outputs from the end on: --at end");
    }
    if (draws < 0) {
      throw new WrongUseException("--draws is " + draws + ", must be 0 or more");
    }
    try (LanguageModel model = options.open()) {
      List<Head> chosen = heads.of(model.config());
      List<Pair> given = Pair.read(pairs, model);
      List<Question> questions = new ArrayList<>();
      given.forEach(pair -> questions.add(pair.question("pairs")));
      also.forEach(file -> questions.addAll(Question.read(file, model)));
      questions.forEach(question -> model.engine().check(question.request()));
      List<int[]> sources =
          given.stream()
              .map(over.equals("reference") ? Pair::reference : Pair::counterfactual)
              .toList();
      Knockout.Setting setting =
          new Knockout.Setting(
              Knockout.Mode.valueOf(mode.toUpperCase(Locale.ROOT)),
              tokens.equals("all") ? Reach.ALL : Reach.ANSWER,
              sources,
              seed);
      List<Knockout.Accuracy> accuracies;
      try (ProgressBar bar = new ProgressBar("knockout", (draws + 2L) * questions.size())) {
        accuracies = new Knockout(model.engine(), setting).run(chosen, draws, questions, bar::at);
      }
      if (output.isJson()) {
        output.print(document(chosen, tokens, accuracies, model.config()));
      } else {
        print(chosen, accuracies, model.config());
      }
      return 0;
    }
  }

  private Map<String, Object> document(
      List<Head> chosen, String tokens, List<Knockout.Accuracy> accuracies, ModelConfig config) {
    List<Object> tasks = new ArrayList<>();
    accuracies.forEach(accuracy -> tasks.add(document(accuracy)));
    return Json.object(
        "heads", chosen.stream().map(Head::toString).toList(),
        "kv_heads", chosen.stream().map(head -> head.kvHead(config)).toList(),
        "query_heads_per_kv_head", config.nHeads() / config.nKvHeads(),
        "mode", mode,
        "at", tokens,
        "mean_over", mode.equals("zero") ? null : over,
        "draws", draws,
        "seed", seed,
        "tasks", tasks);
  }

  static Map<String, Object> document(Knockout.Accuracy accuracy) {
    double[] random = accuracy.random();
    return Json.object(
        "task", accuracy.kind(),
        "questions", accuracy.questions(),
        "intact", accuracy.intact(),
        "knocked_out", accuracy.without(),
        "random", random,
        "random_mean", accuracy.randomMean(),
        "random_std", accuracy.randomDeviation(),
        "random_min", Arrays.stream(random).min().orElse(Double.NaN),
        "random_max", Arrays.stream(random).max().orElse(Double.NaN));
  }

  private void print(List<Head> chosen, List<Knockout.Accuracy> accuracies, ModelConfig config) {
    System.out.printf(
        "without %s (%d of %d heads), %s%n",
        String.join(", ", chosen.stream().map(Head::toString).toList()),
        chosen.size(),
        config.nLayers() * config.nHeads(),
        mode);
    System.out.printf(
        "%-24s %9s %7s %7s   %s%n", "task", "questions", "intact", "without", "random heads");
    for (Knockout.Accuracy accuracy : accuracies) {
      System.out.printf(
          "%-24s %,9d %6.1f%% %6.1f%%   %s%n",
          accuracy.kind(),
          accuracy.questions(),
          100 * accuracy.intact(),
          100 * accuracy.without(),
          draws == 0
              ? "-"
              : "%.1f%% ± %.1f (%.1f to %.1f)"
                  .formatted(
                      100 * accuracy.randomMean(),
                      100 * accuracy.randomDeviation(),
                      100 * Arrays.stream(accuracy.random()).min().orElse(0),
                      100 * Arrays.stream(accuracy.random()).max().orElse(0)));
    }
  }
}
