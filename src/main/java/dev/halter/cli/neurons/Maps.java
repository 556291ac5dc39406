package dev.halter.cli.neurons;

import dev.halter.neurons.NeuronMap;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;

/** Maps of the command line. */
final class Maps {
  private Maps() {}

  /**
   * Reads a map that is to be used with a model.
   *
   * @param folder of the model
   * @param anyModel whether the map may be of another model with as many tokens
   */
  static NeuronMap read(Path file, Path folder, boolean anyModel) {
    NeuronMap map = NeuronMap.read(file);
    ModelConfig config = ModelConfig.read(folder);
    if (anyModel) {
      map.requireVocabulary(config, file);
      return map;
    }
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      map.requireOf(config, checkpoint, file);
    }
    return map;
  }

  /** Refuses a map whose neurons a model cannot have. */
  static void requireNeurons(NeuronMap map, ModelConfig config) {
    NeuronMap.Settings settings = map.settings();
    if (settings.layers() != config.nLayers() || settings.neurons() != config.dMlp()) {
      throw new IllegalArgumentException(
          "the map is of %d layers of %d neurons, the model has %d of %d: they cannot be clamped"
              .formatted(settings.layers(), settings.neurons(), config.nLayers(), config.dMlp()));
    }
  }
}
