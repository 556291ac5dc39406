package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.SidesOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.heads.HeadFit;
import dev.halter.model.Head;
import dev.halter.steering.HeadControl;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "fit",
    description = {
      "Fits maps that carry chosen heads' outputs from negative prompts to positive ones.",
      "They are maps between the Gaussians of both sets: a file for head_affine in a plan."
    })
final class FitCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Mixin HeadOptions heads;

  @Mixin SidesOptions sides;

  @Option(
      names = "--method",
      paramLabel = "M",
      defaultValue = "transport",
      description =
          "mean (moves the mean), whiten (whitens and colours), transport (optimal transport) or pairs"
              + " (what the positive prompt of a pair has; the n-th of both are one) (default: ${DEFAULT-VALUE}).")
  String method;

  @Option(
      names = "--shrinkage",
      paramLabel = "X",
      defaultValue = "0.1",
      description =
          "Share of the covariances that is made round, 0 to 1 (default: ${DEFAULT-VALUE}).")
  double shrinkage;

  @Option(
      names = "--answer-tokens",
      paramLabel = "N",
      defaultValue = "0",
      description =
          "Tokens of answers that are samples too, beside each prompt's last: the greedy answer to"
              + " the n-th positive prompt, read after it and after the n-th negative one"
              + " (default: ${DEFAULT-VALUE}).")
  int answerTokens;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Maps to write, as safetensors.")
  Path out;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Method how = OptionValue.of(Method.class, "--method", method);
    if (!(shrinkage >= 0 && shrinkage <= 1)) {
      throw new WrongUseException("--shrinkage is " + shrinkage + ", must be 0 to 1");
    }
    if (answerTokens < 0) {
      throw new WrongUseException("--answer-tokens is " + answerTokens + ", must be 0 or more");
    }
    try (LanguageModel model = options.openForPairs()) {
      List<Head> chosen = heads.of(model.config());
      List<int[]> wanted = sides.positive(model);
      List<int[]> unwanted = sides.negative(model);
      HeadControl control =
          new HeadFit(model, chosen, wanted, unwanted, answerTokens)
              .control(chosen, how, shrinkage);
      control.write(out);
      if (output.isJson()) {
        output.print(
            Json.object(
                "heads", chosen.stream().map(Head::toString).toList(),
                "method", method,
                "shrinkage", shrinkage,
                "positive_prompts", wanted.size(),
                "negative_prompts", unwanted.size(),
                "samples", Integer.parseInt(control.facts().get("samples")),
                "out", out.toString()));
      } else {
        System.out.printf(
            "%s of %d heads, from %,d positive and %,d negative prompts: %s%n",
            method, chosen.size(), wanted.size(), unwanted.size(), out);
      }
      return 0;
    }
  }
}
