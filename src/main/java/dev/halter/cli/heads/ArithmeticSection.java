package dev.halter.cli.heads;

import dev.halter.cli.SumsOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.evaluation.Arithmetic;
import dev.halter.evaluation.ArithmeticEvaluation;
import dev.halter.evaluation.ArithmeticEvaluation.Found;
import dev.halter.evaluation.ArithmeticEvaluation.Report;
import dev.halter.evaluation.ArithmeticEvaluation.Row;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.AttentionPatterns.Weight;
import dev.halter.heads.Knockout.Accuracy;
import dev.halter.heads.Knockout.Mode;
import dev.halter.model.Head;
import dev.halter.scoring.Question;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.ToDoubleFunction;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** The part of {@code halter heads evaluate} that takes out the heads of sums. */
final class ArithmeticSection {
  @Mixin SumsOptions sums;

  @Option(
      names = "--without",
      paramLabel = "N",
      split = ",",
      defaultValue = "1,2,3",
      description = "Numbers of heads to take out of the sums' (default: ${DEFAULT-VALUE}).")
  List<Integer> without;

  /** Refuses numbers that mean nothing. */
  void check() {
    sums.check();
    if (without.stream().anyMatch(count -> count < 1)) {
      throw new WrongUseException("--without is " + without + ", must be 1 or more each");
    }
  }

  Report run(
      LanguageModel model,
      Path modelFolder,
      int draws,
      long seed,
      List<Question> other,
      List<int[]> texts,
      Consumer<String> progress) {
    Arithmetic arithmetic = sums.templates(modelFolder);
    List<Arithmetic.Example> examples =
        arithmetic.examples(List.copyOf(arithmetic.operators()), 1, 9, seed);
    return ArithmeticEvaluation.of(
        model,
        examples,
        new ArithmeticEvaluation.Tried(sums.count, without, Mode.MEAN, draws, seed),
        other,
        texts,
        progress);
  }

  static Map<String, Object> document(Report report) {
    List<Object> found = new ArrayList<>();
    for (Found one : report.found()) {
      found.add(
          Json.object(
              "head", one.head().toString(),
              "relative", one.effect().relative(),
              "delta_logit", one.effect().delta()));
    }
    List<Object> attention = new ArrayList<>();
    for (Weight weight : report.attention()) {
      attention.add(
          Json.object(
              "head", weight.head().toString(),
              "part", weight.part(),
              "mean", weight.mean(),
              "uniform", weight.uniform()));
    }
    List<Object> rows = new ArrayList<>();
    for (Row row : report.rows()) {
      List<Object> tasks = new ArrayList<>();
      row.accuracies().forEach(accuracy -> tasks.add(KnockoutCommand.document(accuracy)));
      rows.add(
          Json.object(
              "heads", row.heads().stream().map(Head::toString).toList(),
              "tasks", tasks,
              "perplexity", row.perplexity(),
              "random_perplexity", Arrays.stream(row.randomPerplexity()).boxed().toList()));
    }
    return Json.object(
        "pairs", report.pairs(),
        "measured", report.measured(),
        "key_heads", report.keyHeads(),
        "found", found,
        "attention", attention,
        "perplexity", report.perplexity(),
        "rows", rows);
  }

  static void print(Report report, int heads) {
    System.out.printf(
        "sums: heads found with %,d pairs, %d of %d with an effect below -5 %%%n",
        report.pairs(), report.keyHeads(), heads);
    System.out.printf("%-8s %9s   %s%n", "head", "effect", "where the last token looks");
    for (Found one : report.found()) {
      List<String> parts = new ArrayList<>();
      for (Weight weight : report.attention()) {
        if (weight.head().equals(one.head())) {
          parts.add("%s %.0f%%".formatted(weight.part(), 100 * weight.mean()));
        }
      }
      System.out.printf(
          "%-8s %8.1f%%   %s%n",
          one.head(), 100 * one.effect().relative(), String.join(", ", parts));
    }
    System.out.printf(
        "%nright on %,d sums that nothing was chosen by, and what it costs elsewhere%n",
        report.measured());
    System.out.printf("%-28s %8s %8s %10s%n", "taken out", "sums", "other", "perplexity");
    List<Accuracy> first = report.rows().getFirst().accuracies();
    printRow("nothing", first, Accuracy::intact, report.perplexity());
    for (Row row : report.rows()) {
      String names = String.join(" ", row.heads().stream().map(Head::toString).toList());
      printRow(names, row.accuracies(), Accuracy::without, row.perplexity());
      double random = Arrays.stream(row.randomPerplexity()).average().orElse(Double.NaN);
      printRow(
          row.heads().size() + " random others, mean",
          row.accuracies(),
          Accuracy::randomMean,
          random);
    }
  }

  /** Sums come first; the other questions as one share. */
  private static void printRow(
      String name, List<Accuracy> accuracies, ToDoubleFunction<Accuracy> share, double perplexity) {
    double right = 0;
    double questions = 0;
    for (Accuracy other : accuracies.subList(1, accuracies.size())) {
      right += share.applyAsDouble(other) * other.questions();
      questions += other.questions();
    }
    System.out.printf(
        "%-28s %8s %8s %10s%n",
        name,
        percent(share.applyAsDouble(accuracies.getFirst())),
        percent(right / questions),
        perplexity(perplexity));
  }

  /** A share, or that there is nothing that it could be of. */
  static String percent(double share) {
    return Double.isNaN(share) ? "-" : "%.1f%%".formatted(100 * share);
  }

  /** A perplexity, or that there is no text. */
  static String perplexity(double value) {
    return Double.isNaN(value) ? "-" : "%.3f".formatted(value);
  }
}
