package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.halter.device.DType;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import dev.halter.weights.SteeringVectors;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.weights} show. */
class WeightsSnippetsTest {
  @Test
  void safetensors(@TempDir Path folder) {
    Path file = folder.resolve("happy.safetensors");
    // @start region="safetensors"
    float[] happy = {0.5f, -2, 1};
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file, Map.of("made", "by hand"), List.of(new TensorSpec("happy", DType.F32, 3)))) {
      out.write("happy", happy);
    }
    try (Safetensors tensors = Safetensors.open(file)) {
      System.out.println(tensors.tensor("happy").toFloats().length);
    }
    // @end
    assertArrayEquals(
        happy, SteeringVectors.read(folder, "happy.safetensors#happy", 0, 0, happy.length));
  }
}
