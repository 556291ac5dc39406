package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.files.BadFileException;
import dev.halter.model.Head;
import dev.halter.sparse.DictionaryFile;
import dev.halter.steering.HeadControl;
import dev.halter.weights.ControlVector;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * What plans in requests may name beside plans: the control vectors, vectors, dictionaries and head
 * controls that lie in the folder of {@code --plans}. One that cannot be used is listed with why.
 */
final class VectorRoutes {
  private static final String VECTORS = "/v1/vectors";

  private final Backend backend;

  VectorRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(
        Route.user("GET", VECTORS, this::vectors), Route.user("GET", VECTORS + "/", this::vector));
  }

  private void vectors(Exchange exchange) {
    List<Object> vectors = new ArrayList<>();
    backend
        .plans()
        .files()
        .forEach(
            (name, file) -> {
              if (isVector(file)) {
                Map<String, Object> told = tell(name, file);
                told.remove("concepts"); // there may be thousands
                vectors.add(told);
              }
            });
    exchange.answer(200, object("object", "list", "data", vectors));
  }

  private void vector(Exchange exchange) {
    String name = exchange.after(VECTORS + "/");
    Path file = backend.plans().files().get(name);
    if (file == null || !isVector(file)) {
      throw ApiError.notFound("name", "there is no vector \"" + Text.line(name) + "\"");
    }
    exchange.answer(200, tell(name, file));
  }

  private static boolean isVector(Path file) {
    String name = file.getFileName().toString();
    return name.endsWith(".gguf") || name.endsWith(".safetensors") || Files.isDirectory(file);
  }

  private Map<String, Object> tell(String name, Path file) {
    Map<String, Object> told = object("name", name, "object", "vector");
    try {
      told.putAll(read(file, backend.model().config()));
    } catch (BadFileException e) {
      told.put("error", backend.plans().withoutFolder(e.getMessage()));
    }
    return told;
  }

  private static Map<String, Object> read(Path file, ModelConfig config) {
    if (file.toString().endsWith(".gguf")) {
      return controlVector(file, config);
    }
    if (Files.isDirectory(file)) {
      return dictionary(file, config);
    }
    List<String> tensors = new ArrayList<>();
    try (Safetensors in = Safetensors.open(file)) {
      if (HeadControl.isOne(in)) {
        List<Head> heads = HeadControl.read(file, config).heads();
        return object("kind", "head_control", "heads", heads.stream().map(Head::toString).toList());
      }
      if (in.names().stream().anyMatch(tensor -> tensor.matches("atoms(\\.\\d+)?"))) {
        return dictionary(file, config);
      }
      for (String tensor : in.names()) {
        TensorView view = in.tensor(tensor);
        if (view.dtype().isFloat() && view.elements() == config.dModel()) {
          tensors.add(tensor);
        }
      }
    }
    if (tensors.isEmpty()) {
      throw new BadFileException(file, "has no vector of %,d values".formatted(config.dModel()));
    }
    return object("kind", "vectors", "tensors", tensors);
  }

  private static Map<String, Object> controlVector(Path file, ModelConfig config) {
    ControlVector vector = ControlVector.read(file);
    int length = vector.directions().values().iterator().next().length;
    if (length != config.dModel()) {
      throw new BadFileException(
          file,
          "has directions of %,d values, but the model's d_model is %,d"
              .formatted(length, config.dModel()));
    }
    return object("kind", "control_vector", "layers", List.copyOf(vector.directions().keySet()));
  }

  private static Map<String, Object> dictionary(Path file, ModelConfig config) {
    try (DictionaryFile dictionary = DictionaryFile.open(file)) {
      dictionary.requireWidth(config.dModel());
      return object(
          "kind", "dictionary",
          "layers", List.copyOf(dictionary.layers()),
          "size", dictionary.size(),
          "concepts", dictionary.names());
    }
  }
}
