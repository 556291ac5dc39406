package dev.halter.cli.neurons;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.ShardOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.files.Shard;
import dev.halter.generation.LanguageModel;
import dev.halter.model.LlamaWeights;
import dev.halter.neurons.Atlas;
import dev.halter.neurons.MapExport;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import dev.halter.text.Tokenizer;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "map",
    description = {
      "Decodes every MLP neuron of a model into tokens through the LM head.",
      "Writes a map for other commands, a table for other programs, or a page to look around in."
    })
public final class MapCommand implements Callable<Integer> {
  @Spec CommandSpec spec;

  @Mixin ModelOptions options;

  @Option(names = "--out", paramLabel = "F", description = "Map to write.")
  Path out;

  @Option(
      names = "--map",
      paramLabel = "F",
      description = "Take this map for --export and --html instead of making one.")
  Path existing;

  @Option(
      names = "--any-model",
      description = "Take --map even if it is of another model with as many tokens.")
  boolean anyModel;

  @Option(
      names = "--export",
      paramLabel = "F",
      description = "Table of all kept tokens to write: F ends in .parquet, .jsonl or .csv.")
  Path export;

  @ArgGroup(exclusive = false)
  AtlasOptions atlas;

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

  @Mixin ShardOptions shards;
  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    NeuronMap.Projection proj = OptionValue.of(NeuronMap.Projection.class, "--proj", projection);
    NeuronMap.Decode how = OptionValue.of(NeuronMap.Decode.class, "--decode", decode);
    NeuronMap.Sign signs = OptionValue.of(NeuronMap.Sign.class, "--sign", sign);
    OptionValue.requireAtLeastOne("--top", top);
    if (out == null && export == null && atlas == null) {
      throw new WrongUseException("nothing to write: name a file with --out, --export or --html");
    }
    if (!shards.shard().isWhole() && (export != null || atlas != null || existing != null)) {
      throw new WrongUseException(
          "--shard writes a part of a map: give it --out alone, and name the joined map with --map");
    }
    MapExport format = export == null ? null : format();
    if (measures()) {
      atlas.measure.check();
    }
    if (export != null || atlas != null) {
      checkTexts();
    }
    Map<String, Object> done = new LinkedHashMap<>();
    NeuronMap map = existing == null ? make(proj, how, signs, done) : read();
    if (measures()) {
      try (LanguageModel model = options.open()) {
        write(map, format, model.tokenizer(), atlas.measure.run(model, new NeuronSearch(map)));
      }
    } else if (export != null || atlas != null) {
      try (Tokenizer tokenizer = Tokenizer.load(options.folder())) {
        write(map, format, tokenizer, List.of());
      }
    }
    report(done);
    return 0;
  }

  /** What a table or a page needs besides the map, looked at before the map is made. */
  private void checkTexts() {
    ModelConfig.read(options.folder()); // says what is wrong with a folder that is none
    try (Tokenizer tokenizer = Tokenizer.load(options.folder())) {
      if (measures()) {
        atlas.measure.concepts.forEach(tokenizer::tokensOf);
        atlas.measure.prompt.check();
      }
    }
  }

  private boolean measures() {
    return atlas != null && atlas.measure != null;
  }

  private MapExport format() {
    try {
      return MapExport.of(export);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException("--export " + e.getMessage());
    }
  }

  /** Makes a map, writes it to {@code --out} and says so in {@code done}. */
  private NeuronMap make(
      NeuronMap.Projection proj,
      NeuronMap.Decode how,
      NeuronMap.Sign signs,
      Map<String, Object> done) {
    ModelConfig config = ModelConfig.read(options.folder());
    // Only the LM head and the neurons are read, not the rest of the model.
    try (Device device = options.openDevice();
        Checkpoint checkpoint = Checkpoint.open(options.folder());
        Scope scope = device.scope()) {
      checkpoint.require(config);
      DType type = LanguageModel.activations(options.dtype, device, checkpoint);
      Shard shard = shards.shard();
      int neurons = (int) shard.size(config.nLayers()) * config.dMlp();
      long start = System.nanoTime();
      LlamaWeights.Linear head = LlamaWeights.head(scope, checkpoint, config, type);
      NeuronMap map;
      try (ProgressBar bar = new ProgressBar("map", neurons)) {
        NeuronMap.Source source = new NeuronMap.Source(device, config, checkpoint, head, shard);
        map = NeuronMap.of(source, proj, how, signs, top, bar::at);
      }
      double seconds = (System.nanoTime() - start) / 1e9;
      done.put("device", device.description());
      done.put("neurons", neurons);
      done.put("map_seconds", seconds);
      if (!output.isJson()) {
        System.out.printf(
            "%,d neurons of %s_proj mapped in %.2f s on %s%n",
            neurons, projection, seconds, device.description());
      }
      if (out != null) {
        map.write(out);
        done.put("out", out.toString());
      }
      return map;
    }
  }

  private NeuronMap read() {
    for (String option : List.of("--out", "--proj", "--decode", "--sign", "--top")) {
      if (spec.commandLine().getParseResult().hasMatchedOption(option)) {
        throw new WrongUseException(option + " is for making a map, but --map names one");
      }
    }
    return Maps.read(existing, options.folder(), anyModel);
  }

  private void write(
      NeuronMap map, MapExport format, Tokenizer tokenizer, List<Atlas.Measurement> measured) {
    if (export != null) {
      format.write(map, tokenizer::piece, export);
    }
    if (atlas != null) {
      String model = options.folder().toAbsolutePath().normalize().getFileName().toString();
      Atlas.write(atlas.html, model, map, tokenizer::piece, measured);
    }
  }

  private void report(Map<String, Object> done) {
    if (export != null) {
      done.put("export", export.toString());
    }
    if (atlas != null) {
      done.put("html", atlas.html.toString());
    }
    if (output.isJson()) {
      output.print(done);
      return;
    }
    for (String file : List.of("out", "export", "html")) {
      if (done.containsKey(file)) {
        System.out.printf("%-6s %s%n", file, done.get(file));
      }
    }
  }
}
