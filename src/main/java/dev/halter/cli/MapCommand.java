package dev.halter.cli;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.generation.LanguageModel;
import dev.halter.model.LlamaWeights;
import dev.halter.neurons.NeuronMap;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "map",
    description = "Decodes every MLP neuron of a model into tokens through the LM head.")
final class MapCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--out", paramLabel = "F", required = true, description = "Map to write.")
  Path out;

  @Option(
      names = "--proj",
      paramLabel = "P",
      defaultValue = "up",
      description = "up, gate (rows) or down (columns); default: ${DEFAULT-VALUE}.")
  String projection;

  @Option(
      names = "--decode",
      paramLabel = "D",
      defaultValue = "raw",
      description =
          "raw: W_U w; unit: W_U w/|w|; norm: the final norm before W_U (default: ${DEFAULT-VALUE};"
              + " which of them the paper means could not be established).")
  String decode;

  @Option(
      names = "--sign",
      paramLabel = "S",
      defaultValue = "both",
      description = "both, plus or minus (default: ${DEFAULT-VALUE}).")
  String sign;

  @Option(
      names = "--top",
      paramLabel = "K",
      defaultValue = "10",
      description = "Tokens kept per neuron and sign (default: ${DEFAULT-VALUE}).")
  int top;

  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  @Override
  public Integer call() {
    NeuronMap.Projection proj = choose(NeuronMap.Projection.class, "--proj", projection);
    NeuronMap.Decode how = choose(NeuronMap.Decode.class, "--decode", decode);
    NeuronMap.Sign signs = choose(NeuronMap.Sign.class, "--sign", sign);
    if (top < 1) {
      throw new WrongUseException("--top is " + top + ", must be 1 or more");
    }
    // Only the LM head and the neurons are read, not the rest of the model.
    try (Device device = options.openDevice();
        Checkpoint checkpoint = Checkpoint.open(options.folder())) {
      ModelConfig config = ModelConfig.read(options.folder());
      checkpoint.require(config);
      DType type = LanguageModel.activations(options.dtype, device, checkpoint);
      int neurons = config.nLayers() * config.dMlp();
      long start = System.nanoTime();
      LlamaWeights.Linear head = LlamaWeights.head(device, checkpoint, config, type);
      NeuronMap map;
      try (ProgressBar bar = new ProgressBar("map", neurons)) {
        NeuronMap.Source source = new NeuronMap.Source(device, config, checkpoint, head);
        map = NeuronMap.of(source, proj, how, signs, top, bar::at);
      }
      double seconds = (System.nanoTime() - start) / 1e9;
      map.write(out);
      if (json) {
        Json.print(
            Json.object(
                "device",
                device.description(),
                "neurons",
                neurons,
                "map_seconds",
                seconds,
                "out",
                out.toString()));
      } else {
        System.out.printf(
            "%,d neurons of %s_proj mapped in %.2f s on %s: %s%n",
            neurons, projection, seconds, device.description(), out);
      }
      return 0;
    }
  }

  /** The constant of that name, in lower case on the command line. */
  static <E extends Enum<E>> E choose(Class<E> type, String option, String name) {
    for (E value : type.getEnumConstants()) {
      if (value.name().toLowerCase(Locale.ROOT).equals(name)) {
        return value;
      }
    }
    StringBuilder names = new StringBuilder();
    for (E value : type.getEnumConstants()) {
      names.append(names.isEmpty() ? "" : ", ").append(value.name().toLowerCase(Locale.ROOT));
    }
    throw new WrongUseException(option + " is '" + name + "'; choose one of " + names);
  }
}
