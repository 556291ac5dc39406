package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The model folders that tools/goldens/models.py made with transformers. */
class GoldenFoldersTest {

  static List<Path> folders() throws IOException, URISyntaxException {
    Path goldens = Path.of(GoldenFoldersTest.class.getResource("/goldens").toURI());
    try (Stream<Path> list = Files.list(goldens)) {
      return list.filter(Files::isDirectory).sorted().toList();
    }
  }

  private static ModelConfig config(Path folder, String name) {
    try {
      Path file = folder.resolve(name);
      return ModelConfig.parse(file, Files.readAllBytes(file));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @ParameterizedTest
  @MethodSource("folders")
  void bothDialectsOfTheConfigMeanTheSameModel(Path folder) {
    ModelConfig config = ModelConfig.read(folder.resolve("model"));
    assertEquals(config, config(folder, "config.v4.json"));
    assertEquals(config, config(folder, "config.v5.json"));
  }

  @ParameterizedTest
  @MethodSource("folders")
  void theCheckpointIsWhatTheConfigAnnounces(Path folder) {
    ModelConfig config = ModelConfig.read(folder.resolve("model"));
    try (Checkpoint checkpoint = Checkpoint.open(folder.resolve("model"))) {
      checkpoint.require(config);
      // Weights are not all alike, or the tests that use them would prove little.
      float[] norm = checkpoint.tensor("model.layers.0.input_layernorm.weight").toFloats();
      assertEquals(config.dModel(), norm.length);
      assertTrue(
          IntStream.range(1, norm.length).anyMatch(i -> norm[i] != norm[0]),
          "the norm's gain should be random");
      assertEquals(64, Fingerprint.of(config, checkpoint).length());
    }
    GenerationConfig generation = GenerationConfig.read(folder.resolve("model"), config);
    assertFalse(generation.eosTokenIds().isEmpty());
  }

  @ParameterizedTest
  @MethodSource("folders")
  void theVectorsCanBeRead(Path folder) {
    ModelConfig config = ModelConfig.read(folder.resolve("model"));
    Path vectors = folder.resolve("vectors");
    if (!Files.exists(vectors)) {
      return;
    }
    float[] single = SteeringVectors.read(vectors, "single.safetensors", 0, 0, config.dModel());
    float[] a = SteeringVectors.read(vectors, "named.safetensors#a", 0, 0, config.dModel());
    float[] b = SteeringVectors.read(vectors, "named.safetensors#b", 0, 0, config.dModel());
    float[] first = SteeringVectors.read(vectors, "control.gguf", 1, 0, config.dModel());
    List<float[]> all = List.of(single, a, b, first);
    for (int i = 0; i < all.size(); i++) {
      for (int j = 0; j < i; j++) {
        assertFalse(Arrays.equals(all.get(i), all.get(j)));
      }
    }
    assertArrayEquals(first, SteeringVectors.read(vectors, "control.gguf", 2, -1, config.dModel()));
    ControlVector control = ControlVector.read(vectors.resolve("control.gguf"));
    assertEquals("llama", control.modelHint().orElseThrow());
    assertEquals(config.nLayers() - 1, control.directions().size());
    assertThrows(
        BadFileException.class,
        () -> SteeringVectors.read(vectors, "named.safetensors", 0, 0, config.dModel()));
  }
}
