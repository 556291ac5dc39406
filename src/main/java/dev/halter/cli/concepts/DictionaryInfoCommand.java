package dev.halter.cli.concepts;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OutputOptions;
import dev.halter.device.Device;
import dev.halter.files.Json;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

@Command(
    name = "info",
    description = "Shows what a dictionary holds, and how far its atoms are alike.")
final class DictionaryInfoCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Parameters(paramLabel = "D", description = "Dictionary: a safetensors file or a SAELens folder.")
  Path path;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    try (DictionaryFile file = DictionaryFile.open(path);
        Device device = options.openDevice()) {
      List<Map<String, Object>> layers = new ArrayList<>();
      List<String> notes = new ArrayList<>();
      if (file.layers().isEmpty()) {
        try (Dictionary dictionary = file.load(device)) {
          layers.add(layer(null, dictionary));
          notes.addAll(dictionary.notes());
        }
      }
      for (int layer : file.layers()) {
        try (Dictionary dictionary = file.load(device, layer)) {
          layers.add(layer(layer, dictionary));
          dictionary.notes().forEach(note -> notes.add("layer " + layer + ": " + note));
        }
      }
      if (output.isJson()) {
        List<String> names = IntStream.range(0, file.size()).mapToObj(file::name).toList();
        output.print(
            Json.object(
                "atoms", file.size(), "d_model", file.width(), "layers", layers, "names", names));
        return 0;
      }
      List<String> first =
          IntStream.range(0, Math.min(8, file.size())).mapToObj(file::name).toList();
      System.out.printf(
          "%,d atoms of %,d numbers: %s%s%n",
          file.size(),
          file.width(),
          String.join(", ", first),
          file.size() > first.size() ? ", …" : "");
      System.out.printf(
          "%6s %9s %12s %14s%n", "layer", "repeats", "common part", "bytes on device");
      for (Map<String, Object> layer : layers) {
        System.out.printf(
            "%6s %,9d %12.3f %,14d%n",
            Objects.requireNonNullElse(layer.get("layer"), "any").toString(),
            (int) layer.get("repeats"),
            (double) layer.get("common_part"),
            Dictionary.bytes(file.size(), file.width()));
      }
      notes.forEach(System.out::println);
      return 0;
    }
  }

  private static Map<String, Object> layer(Integer layer, Dictionary dictionary) {
    return Json.object(
        "layer", layer,
        "repeats", dictionary.repeats(),
        "common_part", dictionary.commonPart());
  }
}
