package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.WrongUseException;
import dev.halter.evaluation.Arithmetic;
import dev.halter.evaluation.ArithmeticEvaluation.Found;
import dev.halter.evaluation.TuningEvaluation;
import dev.halter.evaluation.TuningEvaluation.Report;
import dev.halter.evaluation.TuningEvaluation.Row;
import dev.halter.evaluation.TuningEvaluation.Shares;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Head;
import dev.halter.scoring.Question;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.Option;

/** The part of {@code halter heads evaluate} that tunes the heads of sums. */
final class TuningSection {
  private static final Pattern RANGE = Pattern.compile("(\\d{1,6})\\.\\.(\\d{1,6})");

  @Option(
      names = "--tuned",
      paramLabel = "N",
      split = ",",
      defaultValue = "3",
      description =
          "Numbers of heads to tune, and of as many random others (default: ${DEFAULT-VALUE}).")
  List<Integer> heads;

  @Option(
      names = "--everything",
      description = "Tune all heads together with all MLPs as well, beside all heads.")
  boolean everything;

  @Option(
      names = "--operands",
      paramLabel = "A..B",
      defaultValue = "10..20",
      description = "Of both operands of the sums to learn (default: ${DEFAULT-VALUE}).")
  String operands;

  @Option(
      names = "--operators",
      paramLabel = "O",
      split = ",",
      defaultValue = "+,-",
      description = "Of the sums to learn (default: ${DEFAULT-VALUE}).")
  List<String> operators;

  @Option(
      names = "--learn",
      paramLabel = "N",
      defaultValue = "400",
      description =
          "Sums to learn; half as many choose the learning rate, and again as many are measured"
              + " (default: ${DEFAULT-VALUE}).")
  int learn;

  @Option(
      names = "--epochs",
      paramLabel = "N",
      defaultValue = "3",
      description = "Times that they are learnt (default: ${DEFAULT-VALUE}).")
  int epochs;

  @Option(
      names = "--learning-rate",
      paramLabel = "X",
      split = ",",
      defaultValue = "3e-4,1e-3",
      description = "Learning rates to try (default: ${DEFAULT-VALUE}).")
  List<Double> rates;

  /** Refuses numbers that mean nothing. */
  void check() {
    heads.forEach(count -> OptionValue.requireAtLeastOne("--tuned", count));
    OptionValue.requireAtLeastOne("--epochs", epochs);
    if (learn < 4) {
      throw new WrongUseException("--learn is " + learn + ", must be 4 or more");
    }
    if (!rates.stream().allMatch(rate -> rate > 0 && Double.isFinite(rate))) {
      throw new WrongUseException("--learning-rate is " + rates + ", must be more than 0 each");
    }
    range();
  }

  private int[] range() {
    Matcher range = RANGE.matcher(operands);
    if (!range.matches()) {
      throw new WrongUseException("--operands is '" + operands + "', must be A..B, as 10..20");
    }
    return new int[] {Integer.parseInt(range.group(1)), Integer.parseInt(range.group(2))};
  }

  Report run(
      LanguageModel model,
      ModelOptions options,
      Arithmetic sums,
      int pairs,
      int draws,
      long seed,
      List<Question> other,
      List<int[]> texts,
      Consumer<String> progress) {
    int[] range = range();
    return TuningEvaluation.of(
        model,
        sums.examples(List.copyOf(sums.operators()), 1, 9, seed),
        sums.examples(operators, range[0], range[1], seed),
        other,
        texts,
        new TuningEvaluation.Tried(
            pairs, heads, draws, everything, learn, learn / 2, epochs, rates, seed),
        options::openForPairs,
        progress);
  }

  static Map<String, Object> document(Report report) {
    List<Object> rows = new ArrayList<>();
    for (Row row : report.rows()) {
      Map<String, Object> document =
          Json.object(
              "tuned", row.name(),
              "heads", row.heads().stream().map(Head::toString).toList(),
              "mlps", row.mlps(),
              "parameters", row.parameters(),
              "learning_rates", row.learningRates());
      document.putAll(document(row.shares()));
      rows.add(document);
    }
    return Json.object(
        "pairs", report.pairs(),
        "found", report.found().stream().map(found -> found.head().toString()).toList(),
        "learnt", report.learnt(),
        "measured", report.measured(),
        "before", document(report.before()),
        "rows", rows);
  }

  private static Map<String, Object> document(Shares shares) {
    return Json.object(
        "new_sums", shares.added(),
        "known_sums", shares.known(),
        "other", shares.other(),
        "perplexity", shares.perplexity());
  }

  static void print(Report report, int heads) {
    List<String> names = new ArrayList<>();
    for (Found found : report.found()) {
      names.add(found.head().toString());
    }
    System.out.printf(
        "tuning: heads found with %,d known sums, of %d: %s%n",
        report.pairs(), heads, String.join(" ", names));
    System.out.printf(
        "%,d new sums learnt, right on %,d further ones, and what it costs elsewhere%n",
        report.learnt(), report.measured());
    System.out.printf(
        "%-30s %9s %9s %9s %11s %8s %10s%n",
        "tuned", "weights", "rate", "new sums", "known sums", "other", "perplexity");
    print("nothing", "-", "-", report.before());
    for (Row row : report.rows()) {
      String rate =
          row.learningRates().stream().distinct().count() == 1
              ? "%.0e".formatted(row.learningRates().getFirst())
              : "various";
      print(row.name(), "%,.0f".formatted(row.parameters()), rate, row.shares());
    }
  }

  private static void print(String name, String parameters, String rate, Shares shares) {
    double other =
        shares.other().values().stream().mapToDouble(x -> x).average().orElse(Double.NaN);
    System.out.printf(
        "%-30s %9s %9s %9s %11s %8s %10s%n",
        name,
        parameters,
        rate,
        ArithmeticSection.percent(shares.added()),
        ArithmeticSection.percent(shares.known()),
        ArithmeticSection.percent(other),
        ArithmeticSection.perplexity(shares.perplexity()));
  }
}
