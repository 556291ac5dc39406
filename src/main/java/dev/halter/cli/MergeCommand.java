package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.model.CaptureFile;
import dev.halter.neurons.NeuronMap;
import dev.halter.patching.EffectsFile;
import dev.halter.weights.SafetensorsShards;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(
    name = "merge",
    description = {
      "Joins what runs with --shard wrote into the file that one run without it writes.",
      "Takes results of batch, dumps of capture, maps, and effects of heads patch; a shard that is"
          + " missing or there twice is an error."
    })
final class MergeCommand implements Callable<Integer> {
  @Parameters(paramLabel = "SHARD", arity = "1..*", description = "Files to join, in any order.")
  List<Path> shards = new ArrayList<>();

  @Option(names = "--out", paramLabel = "F", required = true, description = "File to write.")
  Path out;

  @Option(
      names = "--in",
      paramLabel = "F",
      description = "For results of batch: the lines that all shards together answer.")
  Path in;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    for (Path shard : shards) {
      if (shard.toAbsolutePath().normalize().equals(out.toAbsolutePath().normalize())) {
        throw new WrongUseException("--out is one of the shards, " + shard + ": name another file");
      }
    }
    Map<String, Object> done =
        switch (WrittenFile.of(shards.getFirst())) {
          case RESULTS -> results();
          case EFFECTS -> effects();
          case TENSORS -> tensors();
        };
    done.put("shards", shards.size());
    done.put("out", out.toString());
    if (output.isJson()) {
      output.print(done);
    } else {
      System.out.printf("%,d shards joined: %s%n", shards.size(), out);
    }
    return 0;
  }

  private Map<String, Object> results() {
    if (in == null) {
      throw new WrongUseException(
          "results do not tell whether all are there: name the lines that they answer with --in");
    }
    ResultShards results = new ResultShards(in);
    results.join(shards, out);
    return Json.object("lines", results.lines(), "failed", results.failed());
  }

  private Map<String, Object> effects() {
    refuseInput();
    Map<String, Object> document = EffectsFile.join(shards);
    WholeFile.write(out, text -> text.write(Json.text(document) + "\n"));
    return Json.object("pairs", document.get("pairs"));
  }

  private Map<String, Object> tensors() {
    refuseInput();
    try (SafetensorsShards files = new SafetensorsShards(shards)) {
      String format = files.metadata().getOrDefault("format", "");
      int tensors =
          switch (format) {
            case NeuronMap.FORMAT -> files.writeJoined(out);
            case CaptureFile.FORMAT -> files.writeUnion(out);
            default ->
                throw new BadFileException(
                    shards.getFirst(), "is of format '" + format + "': no command shards that");
          };
      return Json.object("tensors", tensors);
    }
  }

  private void refuseInput() {
    if (in != null) {
      throw new WrongUseException(
          "--in is for results of batch, which " + shards.getFirst() + " is not");
    }
  }
}
