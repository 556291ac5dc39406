package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.evaluation.Arithmetic;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "arithmetic",
    description = {
      "Makes sums in 36 phrasings, and the same texts without their operator.",
      "A word for nothing stands in its place. The spans operand_a, operand_b and operator name the"
          + " tokens of each sum."
    })
final class PairsArithmeticCommand implements Callable<Integer> {
  private static final Pattern RANGE = Pattern.compile("(\\d{1,4})(?:\\.\\.(\\d{1,4}))?");

  @Mixin ModelOptions options;

  @Option(names = "--out", paramLabel = "F", required = true, description = "New file of pairs.")
  Path out;

  @Option(
      names = "--operators",
      paramLabel = "O",
      split = ",",
      description = "Some of + - * / (default: all that the templates have).")
  List<String> operators = new ArrayList<>();

  @Option(
      names = "--operands",
      paramLabel = "A..B",
      defaultValue = "1..9",
      description = "Range of both operands (default: ${DEFAULT-VALUE}).")
  String operands;

  @Option(
      names = "--templates",
      paramLabel = "F",
      description = "Templates as JSON (default: the 36 that ship).")
  Path templates;

  @Option(
      names = "--limit",
      paramLabel = "N",
      defaultValue = "1000",
      description = "Most pairs to write (default: ${DEFAULT-VALUE}).")
  int limit;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the choice and the order (default: ${DEFAULT-VALUE}).")
  long seed;

  @Option(
      names = "--correct-only",
      description = "Keep only what the model answers rightly, as the paper does.")
  boolean correctOnly;

  @Option(
      names = "--same-length",
      description = "Keep only pairs of prompts with the same number of tokens.")
  boolean sameLength;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Matcher range = RANGE.matcher(operands);
    if (!range.matches()) {
      throw new WrongUseException("--operands is '" + operands + "', must be like 1..9");
    }
    OptionValue.requireAtLeastOne("--limit", limit);
    PairsCommand.refuseExisting(out);
    Arithmetic arithmetic = templates == null ? Arithmetic.standard() : Arithmetic.read(templates);
    List<String> chosen = operators.isEmpty() ? List.copyOf(arithmetic.operators()) : operators;
    int from = Integer.parseInt(range.group(1));
    int to = range.group(2) == null ? from : Integer.parseInt(range.group(2));
    List<Arithmetic.Example> examples = arithmetic.examples(chosen, from, to, seed);
    try (LanguageModel model = options.open()) {
      Arithmetic.Wanted wanted = new Arithmetic.Wanted(limit, correctOnly, sameLength);
      Arithmetic.Pairs made = Arithmetic.pairs(model, examples, wanted);
      PairsCommand.write(out, made.pairs());
      if (output.isJson()) {
        output.print(
            Json.object(
                "pairs", made.pairs().size(),
                "tried", made.tried(),
                "several_tokens", made.severalTokens(),
                "other_length", made.otherLength(),
                "wrong", made.wrong(),
                "out", out.toString()));
      } else {
        System.out.printf(
            "%,d pairs of %,d tried (%,d answers of several tokens, %,d of other length, %,d"
                + " answered wrongly): %s%n",
            made.pairs().size(),
            made.tried(),
            made.severalTokens(),
            made.otherLength(),
            made.wrong(),
            out);
      }
      return 0;
    }
  }
}
