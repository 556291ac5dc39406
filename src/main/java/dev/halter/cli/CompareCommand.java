package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.generation.ResultJson;
import dev.halter.generation.Sampling;
import dev.halter.pictures.Page;
import dev.halter.scoring.Comparison;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "compare",
    description = {
      "Answers prompts without a plan and under each of several, side by side.",
      "Tells what each plan did, and how likely its answer is to the model without any plan."
    })
final class CompareCommand implements Callable<Integer> {
  private static final String WITHOUT = "no plan";

  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;

  @ArgGroup(multiplicity = "1..*")
  List<PromptOptions> prompts;

  @Option(
      names = "--plan",
      paramLabel = "F",
      required = true,
      description = "Steering plan; each of several has an answer of its own.")
  List<Path> plans;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "" + Request.MAX_TOKENS,
      description = "Most tokens of an answer (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Option(
      names = "--first",
      paramLabel = "N",
      defaultValue = "5",
      description = "Likeliest first tokens to tell (default: ${DEFAULT-VALUE}).")
  int first;

  @Option(
      names = "--tokens",
      description = "Show each token's log-probabilities as text too, as JSON and the page do.")
  boolean tokens;

  @Option(
      names = "--html",
      paramLabel = "F",
      description = "Page to write: one file, works offline.")
  Path html;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--max-tokens", maxTokens);
    OptionValue.requireAtLeastOne("--first", first);
    Sampling sampling = this.sampling.sampling();
    prompts.forEach(PromptOptions::check);
    try (LanguageModel model = options.open()) {
      List<SteeringPlan> read = PlanFile.readApart(plans, model.config());
      List<String> names = new ArrayList<>(List.of(WITHOUT));
      read.forEach(plan -> names.add(plan.name()));
      List<Comparison> comparisons =
          Comparison.of(
              model,
              prompts.stream().map(prompt -> prompt.tokens(model)).toList(),
              read,
              sampling,
              maxTokens,
              first);
      Map<String, Object> document = document(model, names, comparisons);
      if (html != null) {
        Page.write(html, "comparison", out -> out.write(Json.text(document)));
      }
      if (output.isJson()) {
        output.print(document);
      } else {
        print(model.tokenizer(), names, comparisons);
      }
      return 0;
    }
  }

  private Map<String, Object> document(
      LanguageModel model, List<String> names, List<Comparison> comparisons) {
    List<Map<String, Object>> questions = new ArrayList<>();
    for (int i = 0; i < comparisons.size(); i++) {
      List<Map<String, Object>> answers = new ArrayList<>();
      Comparison.Item unsteered = comparisons.get(i).unsteered();
      for (Comparison.Item item : comparisons.get(i).items()) {
        String plan = answers.isEmpty() ? null : names.get(answers.size());
        answers.add(answer(model.tokenizer(), plan, item, unsteered));
      }
      questions.add(
          Json.object(
              "prompt",
              prompts.get(i).title(),
              "prompt_tokens",
              unsteered.answer().result().request().prompt().length,
              "answers",
              answers));
    }
    return Json.object(
        "model", model.folder().getFileName().toString(),
        "device", model.device().description(),
        "questions", questions);
  }

  private static Map<String, Object> answer(
      Tokenizer tokenizer, String plan, Comparison.Item item, Comparison.Item unsteered) {
    Result result = item.answer().result();
    Map<String, Object> told = ResultJson.of(result, item.answer().text(), false);
    return Json.object(
        "plan", plan,
        "text", told.get("text"),
        "tokens", told.get("tokens"),
        "pieces", Arrays.stream(result.tokens()).mapToObj(tokenizer::piece).toList(),
        "logprobs", item.own(),
        "unsteered_logprobs", item.unsteered(),
        "unsteered_perplexity", item.perplexity(),
        "same_as_unsteered", item.isSameAs(unsteered),
        "finish_reason", told.get("finish_reason"),
        "first",
            item.first().stream()
                .map(
                    each ->
                        Json.object(
                            "token", each.token(),
                            "piece", tokenizer.piece(each.token()),
                            "probability", Math.exp(each.logProbability())))
                .toList(),
        "steering_report", told.get("steering_report"));
  }

  private void print(Tokenizer tokenizer, List<String> names, List<Comparison> comparisons) {
    int width = names.stream().mapToInt(String::length).max().orElseThrow();
    String row = "%-" + width + "s  %s%n";
    for (int i = 0; i < comparisons.size(); i++) {
      Comparison.Item unsteered = comparisons.get(i).unsteered();
      List<Comparison.Item> items = comparisons.get(i).items();
      System.out.printf("%s%s%n%n", i == 0 ? "" : "\n", prompts.get(i).title());
      for (int j = 0; j < items.size(); j++) {
        boolean same = j > 0 && items.get(j).isSameAs(unsteered);
        System.out.printf(
            row, names.get(j), same ? "the same answer" : items.get(j).answer().text().strip());
      }
      System.out.printf("%n" + row, "", "unsteered perplexity  first tokens");
      for (int j = 0; j < items.size(); j++) {
        System.out.printf(row, names.get(j), numbers(tokenizer, items.get(j)));
      }
      for (int j = 1; j < items.size(); j++) {
        System.out.printf("%n" + row, names.get(j), parting(tokenizer, items.get(j), unsteered));
        for (String line : ReportLines.of(items.get(j).answer().report())) {
          System.out.printf(row, "", line);
        }
        if (tokens && !items.get(j).isSameAs(unsteered)) {
          printTokens(tokenizer, items.get(j));
        }
      }
    }
  }

  private static void printTokens(Tokenizer tokenizer, Comparison.Item item) {
    System.out.printf("%n  %-20s %12s %12s%n", "token", "with plan", "without");
    int[] answer = item.answer().result().tokens();
    for (int i = 0; i < answer.length; i++) {
      System.out.printf(
          "  %-20s %12.4f %12.4f%n",
          "'" + tokenizer.piece(answer[i]) + "'", item.own()[i], item.unsteered()[i]);
    }
  }

  private static String numbers(Tokenizer tokenizer, Comparison.Item item) {
    return "%20s  %s"
        .formatted(
            item.unsteered().length == 0 ? "-" : "%.2f".formatted(item.perplexity()),
            item.first().stream()
                .map(
                    each ->
                        "'%s' %.3f"
                            .formatted(
                                tokenizer.piece(each.token()), Math.exp(each.logProbability())))
                .collect(Collectors.joining("  ")));
  }

  /** Where an answer leaves the one without a plan, and how likely that token is to both. */
  private static String parting(
      Tokenizer tokenizer, Comparison.Item item, Comparison.Item unsteered) {
    int at = item.partsFrom(unsteered);
    Result result = item.answer().result();
    if (at < 0) {
      return "same answer as without a plan";
    }
    if (at == result.tokens().length) {
      return "ends after token %d, where it would go on without a plan".formatted(at);
    }
    return "parts at token %d, '%s': probability %.3f, without a plan %.3f"
        .formatted(
            at + 1,
            tokenizer.piece(result.tokens()[at]),
            Math.exp(item.own()[at]),
            Math.exp(item.unsteered()[at]));
  }
}
