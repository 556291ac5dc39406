package dev.halter.cli.neurons;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.Ordinal;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.PromptOptions;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "dose",
    description = "Clamps a neuron to several values and measures a token's probability as next.")
public final class DoseCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @ArgGroup(multiplicity = "1")
  PromptOptions prompt;

  @Option(names = "--neuron", paramLabel = "L.N", required = true, description = "Neuron.")
  String neuron;

  @Option(
      names = "--site",
      paramLabel = "S",
      defaultValue = "hook_pre_linear",
      description = "hook_pre, hook_pre_linear or hook_post (default: ${DEFAULT-VALUE}).")
  String site;

  @Option(
      names = "--values",
      paramLabel = "X",
      required = true,
      split = ",",
      description = "Values to clamp to.")
  float[] values;

  @Option(
      names = "--token",
      paramLabel = "T",
      required = true,
      description = "Token, with and without a space before it; several mean one concept.")
  List<String> tokens = new ArrayList<>();

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    NeuronOptions chosen = NeuronOptions.parse(neuron);
    NeuronOptions.requireFinite("--values", values);
    try (LanguageModel model = options.open()) {
      Site where = chosen.site(site, model.config());
      Set<Integer> concept = new LinkedHashSet<>();
      tokens.forEach(word -> concept.addAll(model.tokensOf(word)));
      List<DoseResponse.Effect> effects =
          DoseResponse.of(
              model.engine(),
              prompt.tokens(model),
              concept,
              DoseResponse.plans(where, chosen.neuron(), values));
      print(model, effects);
      return 0;
    }
  }

  private void print(LanguageModel model, List<DoseResponse.Effect> effects) {
    List<Map<String, Object>> rows = new ArrayList<>();
    if (!output.isJson()) {
      System.out.printf(
          "%10s %11s %9s %8s  %s%n", "value", "probability", "logit", "rank", "top token");
    }
    for (int i = 0; i < values.length; i++) {
      DoseResponse.Effect effect = effects.get(i);
      String top = model.tokenizer().piece(effect.topToken());
      if (output.isJson()) {
        rows.add(
            Json.object(
                "value", values[i],
                "probability", effect.probability(),
                "logit", effect.logit(),
                "rank", effect.rank(),
                "top_token", top));
      } else {
        System.out.printf(
            "%10.4g %11.4f %9.3f %8s  %s%n",
            values[i], effect.probability(), effect.logit(), Ordinal.of(effect.rank()), top);
      }
    }
    if (output.isJson()) {
      output.print(rows);
    }
  }
}
