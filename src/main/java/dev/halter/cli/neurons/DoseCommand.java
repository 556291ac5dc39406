package dev.halter.cli.neurons;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.Ordinal;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.PromptOptions;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.DosePicture;
import dev.halter.neurons.DoseResponse;
import dev.halter.neurons.Verification;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Tokenizer;
import dev.halter.text.VisibleText;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
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

  @Option(
      names = "--out",
      paramLabel = "F",
      description = "Draw the curve, as .svg, .png or .html by its ending.")
  Path out;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    NeuronOptions chosen = NeuronOptions.parse(neuron);
    NeuronOptions.requireFinite("--values", values);
    OptionValue.requirePicture("--out", out);
    try (LanguageModel model = options.open()) {
      Site where = chosen.site(site, model.config());
      Set<Integer> concept = new LinkedHashSet<>();
      tokens.forEach(word -> concept.addAll(model.tokensOf(word)));
      // The unsteered run first.
      List<SteeringPlan> plans = new ArrayList<>(List.of(SteeringPlan.NONE));
      plans.addAll(DoseResponse.plans(where, chosen.neuron(), values));
      List<DoseResponse.Effect> effects =
          DoseResponse.of(model.engine(), prompt.tokens(model), concept, plans);
      DoseResponse.Effect unsteered = effects.getFirst();
      List<Verification.Clamp> clamps = new ArrayList<>();
      for (int i = 0; i < values.length; i++) {
        clamps.add(new Verification.Clamp(values[i], effects.get(i + 1)));
      }
      if (out != null) {
        DosePicture.of(
                where,
                chosen.neuron(),
                tokens,
                prompt.text(model),
                unsteered,
                clamps,
                model.tokenizer()::piece)
            .write(out);
      }
      if (output.isJson()) {
        output.print(clamps.stream().map(clamp -> row(model.tokenizer(), clamp)).toList());
      } else {
        print(model.tokenizer(), unsteered, clamps);
      }
      return 0;
    }
  }

  private static Map<String, Object> row(Tokenizer tokenizer, Verification.Clamp clamp) {
    DoseResponse.Effect effect = clamp.effect();
    return Json.object(
        "value", clamp.value(),
        "probability", effect.probability(),
        "logit", effect.logit(),
        "rank", effect.rank(),
        "top_token", tokenizer.piece(effect.topToken()));
  }

  private static void print(
      Tokenizer tokenizer, DoseResponse.Effect unsteered, List<Verification.Clamp> clamps) {
    System.out.printf(
        "%10s %11s %9s %8s  %s%n", "value", "probability", "logit", "rank", "top token");
    print(tokenizer, "unsteered", unsteered);
    for (Verification.Clamp clamp : clamps) {
      print(tokenizer, String.format(Locale.ROOT, "%.4g", clamp.value()), clamp.effect());
    }
  }

  private static void print(Tokenizer tokenizer, String value, DoseResponse.Effect effect) {
    System.out.printf(
        "%10s %11.4f %9.3f %8s  %s%n",
        value,
        effect.probability(),
        effect.logit(),
        Ordinal.of(effect.rank()),
        VisibleText.of(tokenizer.piece(effect.topToken())));
  }
}
