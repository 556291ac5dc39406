package dev.halter.cli;

import dev.halter.cli.heads.HeadChoice;
import dev.halter.files.Json;
import dev.halter.model.Head;
import dev.halter.tuning.HeadVector;
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
      names = "--train",
      paramLabel = "T",
      defaultValue = "weights",
      description =
          "weights, or a vector for each head's output, which comes out as a plan: scale (factors) or"
              + " bias (offsets) (default: ${DEFAULT-VALUE}).")
  String train;

  @Option(
      names = "--heads-parts",
      paramLabel = "P",
      split = ",",
      description =
          "What is tuned of the heads' weights; under grouped-query attention k and v are their"
              + " group's (default: q,k,v,o).")
  List<String> parts;

  @Option(
      names = "--mlps",
      paramLabel = "L",
      split = ",",
      description = "Layers whose MLPs are tuned whole, beside the heads or alone.")
  List<Integer> mlps = new ArrayList<>();

  private List<Head> chosen = List.of(); // once it has been asked for

  boolean isOfWeights() {
    return train.equals("weights");
  }

  /** What of a model these options choose. */
  Selection of(ModelConfig config) {
    OptionValue.requireOneOf("--train", train, "weights", "scale", "bias");
    if (!isOfWeights() && (parts != null || !mlps.isEmpty())) {
      throw new WrongUseException(
          "--train %s is of heads' outputs: %s is of weights"
              .formatted(train, parts != null ? "--heads-parts" : "--mlps"));
    }
    if (heads != null) {
      chosen = heads.of(config, effects);
    } else if (effects != null) {
      throw new WrongUseException("--effects goes with --top N, which is not given");
    } else if (mlps.isEmpty()) {
      throw new WrongUseException(
          "nothing to tune: name heads by --heads or by --effects and --top, or layers by --mlps");
    }
    if (!isOfWeights()) {
      return new Selection(config, chosen, OptionValue.of(HeadVector.class, "--train", train));
    }
    if (heads == null && parts != null) {
      throw new WrongUseException("--heads-parts is of heads, and none are named");
    }
    for (int layer : mlps) {
      if (layer < 0 || layer >= config.nLayers()) {
        throw new WrongUseException(
            "--mlps names layer %d, layers are 0 to %d".formatted(layer, config.nLayers() - 1));
      }
    }
    Set<Block> blocks = EnumSet.noneOf(Block.class);
    for (String part : parts()) {
      OptionValue.requireOneOf("--heads-parts", part, "q", "k", "v", "o");
      blocks.add(OptionValue.of(Block.class, "--heads-parts", part));
    }
    return new Selection(config, chosen, mlps, blocks);
  }

  private List<String> parts() {
    return parts == null ? List.of("q", "k", "v", "o") : parts;
  }

  /** As {@code tune.json} has it, after {@link #of}. */
  Map<String, Object> document() {
    Map<String, Object> document =
        Json.object("train", train, "heads", chosen.stream().map(Head::toString).toList());
    if (isOfWeights()) {
      document.put("heads_parts", parts());
      document.put("mlps", mlps);
    }
    return document;
  }
}
