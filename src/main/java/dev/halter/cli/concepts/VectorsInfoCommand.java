package dev.halter.cli.concepts;

import dev.halter.cli.OutputOptions;
import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.weights.ControlVector;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

@Command(name = "info", description = "Shows what a file of vectors holds, and how long they are.")
final class VectorsInfoCommand implements Callable<Integer> {
  @Parameters(paramLabel = "F", description = "A GGUF control vector, or safetensors.")
  Path file;

  @Mixin OutputOptions output;

  /** A vector as a plan names it. */
  private record Named(String name, float[] values) {
    double norm() {
      double sum = 0;
      for (float value : values) {
        sum += (double) value * value;
      }
      return Math.sqrt(sum);
    }
  }

  @Override
  public Integer call() {
    Map<String, String> facts = new TreeMap<>();
    List<Named> vectors = file.toString().endsWith(".gguf") ? gguf(facts) : safetensors(facts);
    if (output.isJson()) {
      List<Object> rows = new ArrayList<>();
      for (Named vector : vectors) {
        rows.add(
            Json.object(
                "name", vector.name, "length", vector.values.length, "norm", vector.norm()));
      }
      output.print(Json.object("facts", facts, "vectors", rows));
      return 0;
    }
    facts.forEach((key, value) -> System.out.printf("%s: %s%n", key, value));
    System.out.printf("%-28s %8s %10s%n", "vector", "values", "norm");
    for (Named vector : vectors) {
      System.out.printf("%-28s %,8d %10.4f%n", vector.name, vector.values.length, vector.norm());
    }
    return 0;
  }

  private List<Named> gguf(Map<String, String> facts) {
    ControlVector vector = ControlVector.read(file);
    vector.modelHint().ifPresent(hint -> facts.put("model_type", hint));
    vector.method().ifPresent(method -> facts.put("method", method));
    List<Named> named = new ArrayList<>();
    vector
        .directions()
        .forEach((layer, values) -> named.add(new Named("direction." + layer, values)));
    return named;
  }

  private List<Named> safetensors(Map<String, String> facts) {
    try (Safetensors tensors = Safetensors.open(file)) {
      facts.putAll(tensors.metadata());
      List<Named> named = new ArrayList<>();
      for (String name : tensors.names()) {
        TensorView tensor = tensors.tensor(name);
        if (!tensor.dtype().isFloat() || tensor.rank() != 1) {
          throw new BadFileException(file, "holds " + tensor + ", which is no vector");
        }
        named.add(new Named(name, tensor.toFloats()));
      }
      return named;
    }
  }
}
