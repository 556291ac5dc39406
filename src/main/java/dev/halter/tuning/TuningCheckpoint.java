package dev.halter.tuning;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.tuning.TuningRun.Step;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import dev.halter.weights.TensorView;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A run between two steps, as a safetensors file: {@code NAME/master}, {@code NAME/first} and
 * {@code NAME/second} in F32 for all that is tuned, and in the metadata the steps made and what the
 * run is.
 *
 * @param run what tells it from other runs, by name
 */
record TuningCheckpoint(Map<String, String> run, List<Step> steps, Map<Tuned, AdamW.State> states) {
  private static final String FORMAT = "halter tune 1";

  void write(Path file) {
    List<TensorSpec> specs = new ArrayList<>();
    states.keySet().forEach(tuned -> names(tuned).forEach(name -> specs.add(spec(name, tuned))));
    Map<String, String> metadata = new LinkedHashMap<>(run);
    metadata.put("format", FORMAT);
    metadata.put("steps", Json.text(steps.stream().map(TuningCheckpoint::document).toList()));
    try (SafetensorsWriter out = SafetensorsWriter.create(file, metadata, specs)) {
      states.forEach(
          (tuned, state) -> {
            List<String> names = names(tuned);
            out.write(names.get(0), state.master());
            out.write(names.get(1), state.first());
            out.write(names.get(2), state.second());
          });
    }
  }

  /**
   * Reads one of a run.
   *
   * @throws BadFileException if it is none, or of another run, naming in what that differs
   */
  static TuningCheckpoint read(Path file, Map<String, String> run, List<Tuned> all) {
    try (Safetensors tensors = Safetensors.open(file)) {
      Map<String, String> metadata = tensors.metadata();
      if (!FORMAT.equals(metadata.get("format"))) {
        throw new BadFileException(file, "is no checkpoint of halter tune");
      }
      run.forEach(
          (name, value) -> {
            if (!value.equals(metadata.get(name))) {
              throw new BadFileException(
                  file,
                  "is of a run with another %s: give the options of that run, or take the file away"
                      .formatted(name));
            }
          });
      Map<Tuned, AdamW.State> states = new LinkedHashMap<>();
      for (Tuned tuned : all) {
        List<float[]> parts =
            names(tuned).stream().map(name -> floats(file, tensors, name, tuned)).toList();
        states.put(tuned, new AdamW.State(parts.get(0), parts.get(1), parts.get(2)));
      }
      return new TuningCheckpoint(run, steps(file, metadata.getOrDefault("steps", "")), states);
    }
  }

  private static float[] floats(Path file, Safetensors tensors, String name, Tuned tuned) {
    TensorView tensor = tensors.tensor(name);
    if (tensor.dtype() != DType.F32 || tensor.elements() != tuned.elements()) {
      throw new BadFileException(file, "holds " + name + " in another shape or type");
    }
    return tensor.toFloats();
  }

  private static List<String> names(Tuned tuned) {
    String name = tuned.name();
    return List.of(name + "/master", name + "/first", name + "/second");
  }

  private static TensorSpec spec(String name, Tuned tuned) {
    return new TensorSpec(name, DType.F32, tuned.rows(), tuned.columns());
  }

  private static Map<String, Object> document(Step step) {
    return Json.object(
        "step", step.step(),
        "loss", step.loss(),
        "grad_norm", step.gradNorm(),
        "learning_rate", step.learningRate(),
        "tokens", step.tokens(),
        "rows", step.rows());
  }

  private static List<Step> steps(Path file, String text) {
    List<JsonObject> documents =
        JsonObject.parseList(file, "steps", text.getBytes(StandardCharsets.UTF_8)).objects("steps");
    List<Step> steps = new ArrayList<>();
    for (JsonObject step : documents) {
      steps.add(
          new Step(
              step.integer("step", steps.size() + 1, steps.size() + 1),
              step.number("loss", 0, Double.MAX_VALUE),
              step.number("grad_norm", 0, Double.MAX_VALUE),
              step.number("learning_rate", 0, Double.MAX_VALUE),
              step.integer("tokens", 1, Integer.MAX_VALUE),
              step.integer("rows", 1, Integer.MAX_VALUE)));
    }
    return steps;
  }
}
