package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.patching.ActivationPatching;
import dev.halter.patching.Effects.Effect;
import dev.halter.patching.Pair;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.IntFunction;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "grid",
    description = {
      "Patches each layer's value at each position, and measures the answer's logit.",
      "The value is the counterfactual's, and everything after it is recomputed. Prompts of a pair",
      "must have as many tokens; pairs of several lengths are aligned at their last token."
    })
final class GridCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--pairs", paramLabel = "F", required = true, description = "Pairs, JSON lines.")
  Path pairs;

  @Option(
      names = "--site",
      paramLabel = "S",
      defaultValue = "hook_resid_pre",
      description = "hook_resid_pre, hook_z or hook_mlp_out (default: ${DEFAULT-VALUE}).")
  String site;

  @Option(names = "--per-head", description = "Patch hook_z head by head.")
  boolean perHead;

  @Option(
      names = "--out",
      paramLabel = "F",
      description = "Grid to write, as JSON, which halter heads picture draws.")
  Path out;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireOneOf("--site", site, "hook_resid_pre", "hook_z", "hook_mlp_out");
    if (perHead && !site.equals("hook_z")) {
      throw new WrongUseException("--per-head goes with --site hook_z");
    }
    Site.Kind kind =
        switch (site) {
          case "hook_z" -> Site.Kind.Z;
          case "hook_mlp_out" -> Site.Kind.MLP_OUT;
          default -> Site.Kind.RESID_PRE;
        };
    try (LanguageModel model = options.openForPairs()) {
      ModelConfig config = model.config();
      List<Pair> read = Pair.read(pairs, model);
      ActivationPatching grid;
      try (ProgressBar bar = new ProgressBar("grid", (long) read.size() * config.nLayers())) {
        grid = ActivationPatching.of(model.llama(), read, kind, perHead, false, bar::at);
      }
      Map<String, Object> document = document(model, read, grid);
      if (out != null) {
        WholeFile.write(out, text -> text.write(Json.text(document) + "\n"));
      }
      if (output.isJson()) {
        output.print(document);
      } else {
        print(config, read.size(), grid);
      }
      return 0;
    }
  }

  private Map<String, Object> document(
      LanguageModel model, List<Pair> read, ActivationPatching grid) {
    ModelConfig config = model.config();
    Map<String, Object> document =
        Json.object(
            "site", site,
            "per_head", perHead,
            "pairs", read.size(),
            "positions", list(grid.positions(), i -> i - grid.positions()),
            "tokens", list(grid.positions(), i -> token(model, read, i - grid.positions())),
            "pairs_at", list(grid.positions(), i -> grid.of(0, 0, i).pairs()),
            "relative", cells(config, grid, Effect::relative),
            "delta_logit", cells(config, grid, Effect::delta),
            "reference_logit", grid.referenceLogit());
    double difference = grid.reference().logitDifference();
    if (!Double.isNaN(difference)) {
      document.put("reference_logit_difference", difference);
      document.put("logit_difference", cells(config, grid, Effect::logitDifference));
    }
    return document;
  }

  /** The text of the token that all references have so far from their end; null if they differ. */
  private static String token(LanguageModel model, List<Pair> pairs, int fromEnd) {
    int[] tokens =
        pairs.stream()
            .map(Pair::reference)
            .filter(reference -> reference.length + fromEnd >= 0)
            .mapToInt(reference -> reference[reference.length + fromEnd])
            .distinct()
            .toArray();
    if (tokens.length > 1) {
      return null;
    }
    return model.hasTokenizer() ? model.tokenizer().piece(tokens[0]) : Integer.toString(tokens[0]);
  }

  /** [layers, positions], or [layers, heads, positions]. */
  private List<?> cells(
      ModelConfig config, ActivationPatching grid, ToDoubleFunction<Effect> number) {
    return list(
        config.nLayers(),
        layer -> {
          List<List<Double>> heads =
              list(
                  perHead ? config.nHeads() : 1,
                  head ->
                      list(
                          grid.positions(),
                          column -> number.applyAsDouble(grid.of(layer, head, column))));
          return perHead ? heads : heads.getFirst();
        });
  }

  private static <T> List<T> list(int count, IntFunction<T> of) {
    return IntStream.range(0, count).mapToObj(of).toList();
  }

  /** A table of layers (or heads) by positions, the last twelve. */
  private void print(ModelConfig config, int count, ActivationPatching grid) {
    int first = Math.max(0, grid.positions() - 12);
    System.out.printf(
        "%,d pairs, %s; mean logit of the answer %.4f; delta by layer and position%n",
        count, site, grid.referenceLogit());
    System.out.printf("%-6s", perHead ? "head" : "layer");
    for (int column = first; column < grid.positions(); column++) {
      System.out.printf(" %8d", column - grid.positions());
    }
    System.out.println();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      for (int head = 0; head < (perHead ? config.nHeads() : 1); head++) {
        System.out.printf("%-6s", perHead ? layer + "." + head : layer);
        for (int column = first; column < grid.positions(); column++) {
          System.out.printf(" %8.4f", grid.of(layer, head, column).delta());
        }
        System.out.println();
      }
    }
  }
}
