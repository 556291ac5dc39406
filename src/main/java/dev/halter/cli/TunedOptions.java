package dev.halter.cli;

import dev.halter.cli.heads.HeadChoice;
import dev.halter.files.Json;
import dev.halter.model.Head;
import dev.halter.tuning.Selection;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames.Block;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;

/** What {@code halter tune} tunes. */
final class TunedOptions {
  @ArgGroup(multiplicity = "0..1")
  HeadChoice heads;

  @Option(
      names = "--effects",
      paramLabel = "F",
      description = "Effects that halter heads patch has written, for --top.")
  Path effects;

  @Option(
      names = "--heads-parts",
      paramLabel = "P",
      split = ",",
      defaultValue = "q,k,v,o",
      description =
          "What is tuned of the heads; under grouped-query attention k and v are their group's"
              + " (default: ${DEFAULT-VALUE}).")
  List<String> parts = new ArrayList<>();

  @Option(
      names = "--mlps",
      paramLabel = "L",
      split = ",",
      description = "Layers whose MLPs are tuned whole, beside the heads or alone.")
  List<Integer> mlps = new ArrayList<>();

  private List<Head> chosen = List.of(); // once it has been asked for

  /** What of a model these options choose. */
  Selection of(ModelConfig config) {
    if (heads != null) {
      chosen = heads.of(config, effects);
    } else if (effects != null) {
      throw new WrongUseException("--effects goes with --top N, which is not given");
    } else if (mlps.isEmpty()) {
      throw new WrongUseException(
          "nothing to tune: name heads by --heads or by --effects and --top, or layers by --mlps");
    }
    for (int layer : mlps) {
      if (layer < 0 || layer >= config.nLayers()) {
        throw new WrongUseException(
            "--mlps names layer %d, layers are 0 to %d".formatted(layer, config.nLayers() - 1));
      }
    }
    Set<Block> blocks = EnumSet.noneOf(Block.class);
    for (String part : parts) {
      OptionValue.requireOneOf("--heads-parts", part, "q", "k", "v", "o");
      blocks.add(OptionValue.of(Block.class, "--heads-parts", part));
    }
    return new Selection(config, chosen, mlps, blocks);
  }

  /** As {@code tune.json} has it, after {@link #of}. */
  Map<String, Object> document() {
    return Json.object(
        "heads", chosen.stream().map(Head::toString).toList(), "heads_parts", parts, "mlps", mlps);
  }
}
