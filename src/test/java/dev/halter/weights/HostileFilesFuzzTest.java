package dev.halter.weights;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.halter.files.BadFileException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/**
 * Any bytes make a value or a {@link BadFileException}, never another exception. {@code mvn test}
 * runs the inputs kept in the folder of this class's resources. {@code JAZZER_FUZZ=1 mvn test
 * -Djazzer.hooks=true -Dtest='HostileFilesFuzzTest#configInput'} looks for more.
 */
class HostileFilesFuzzTest {
  private static final Path NAME = Path.of("hostile");

  @FuzzTest(maxDuration = "60s")
  void safetensorsInput(byte[] bytes) {
    safetensors(bytes);
  }

  @FuzzTest(maxDuration = "60s")
  void configInput(byte[] bytes) {
    config(bytes);
  }

  @FuzzTest(maxDuration = "60s")
  void controlVectorInput(byte[] bytes) {
    controlVector(bytes);
  }

  static void safetensors(byte[] bytes) {
    try {
      for (TensorView view :
          Safetensors.parse(NAME, MemorySegment.ofArray(bytes)).tensors().values()) {
        // What a view promises must hold however hostile the header was.
        if (view.toBytes().length != view.elements() * view.dtype().bytes()) {
          throw new AssertionError(view + " does not fit its data");
        }
      }
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    }
  }

  static void config(byte[] bytes) {
    try {
      ModelConfig config = ModelConfig.parse(NAME, bytes);
      if (config.inverseFrequencies().length != config.dHead() / 2
          || config.slidingWindows().size() != config.nLayers()
          || config.nHeads() % config.nKvHeads() != 0) {
        throw new AssertionError(config + " contradicts itself");
      }
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    }
  }

  static void controlVector(byte[] bytes) {
    try {
      ControlVector vector = ControlVector.parse(NAME, MemorySegment.ofArray(bytes));
      for (float[] direction : vector.directions().values()) {
        if (direction.length != vector.length()) {
          throw new AssertionError("directions of different lengths");
        }
      }
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    }
  }
}
