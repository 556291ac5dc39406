package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.Behaviour;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Function;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** The options of the commands that make pairs of a benchmark's prompts. */
final class BehaviourOptions {
  @Mixin ModelOptions options;

  @Option(names = "--in", paramLabel = "F", required = true, description = "File to read.")
  Path in;

  @Option(names = "--out", paramLabel = "F", required = true, description = "New file of pairs.")
  Path out;

  @Option(names = "--system", paramLabel = "T", description = "System message of both prompts.")
  String system;

  @Option(
      names = "--counterfactual-system",
      paramLabel = "T",
      description =
          "Make the counterfactual by this system message instead, before the same prompt.")
  String counterfactualSystem;

  @Option(
      names = "--within",
      paramLabel = "N",
      defaultValue = "32",
      description =
          "Tokens of the answers within which they must part; END is there"
              + " (default: ${DEFAULT-VALUE}).")
  int within;

  @Mixin OutputOptions output;

  int run(Function<Path, List<Behaviour>> reader) {
    OptionValue.requireAtLeastOne("--within", within);
    List<Behaviour> behaviours = reader.apply(in);
    List<Behaviour> usable =
        counterfactualSystem != null
            ? behaviours
            : behaviours.stream().filter(one -> one.counterfactual() != null).toList();
    if (usable.isEmpty()) {
      throw new WrongUseException(
          in + " holds no counterfactuals: add --counterfactual-system with a system message");
    }
    PairsCommand.refuseExisting(out);
    try (LanguageModel model = options.open()) {
      Behaviour.Pairs made = Behaviour.pairs(model, usable, system, counterfactualSystem, within);
      PairsCommand.write(out, made.pairs());
      int lone = behaviours.size() - usable.size();
      if (output.isJson()) {
        output.print(
            Json.object(
                "pairs", made.pairs().size(),
                "prompts", behaviours.size(),
                "without_counterfactual", lone,
                "answered_alike", made.alike(),
                "out", out.toString()));
      } else {
        System.out.printf(
            "%,d pairs of %,d prompts (%,d without a counterfactual, %,d answered alike): %s%n",
            made.pairs().size(), behaviours.size(), lone, made.alike(), out);
      }
      return 0;
    }
  }
}
