package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.files.BadFileException;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.TensorView;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LanguageModelTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @TempDir Path bare;

  private static LanguageModel.Opening options(Path folder) {
    return LanguageModel.at(folder).device("auto").dtype("f32").threads(2).context(64).maxBatch(4);
  }

  private static int[] answer(LanguageModel model) {
    Request request =
        Request.of(new int[] {5, 9, 17, 30})
            .withId("r")
            .withMaxTokens(12)
            .withStopTokens(model.stopTokens());
    return model.engine().run(List.of(request)).getFirst().orThrow().tokens();
  }

  /** The demo model's tensors in memory of their own. */
  private static Map<String, TensorView> copies(Arena arena) {
    Map<String, TensorView> tensors = new LinkedHashMap<>();
    try (Checkpoint files = Checkpoint.open(DEMO)) {
      for (String name : files.names()) {
        TensorView tensor = files.tensor(name);
        MemorySegment copy = arena.allocate(tensor.data().byteSize(), 64).copyFrom(tensor.data());
        tensors.put(name, new TensorView(name, tensor.dtype(), tensor.shape(), copy));
      }
    }
    return tensors;
  }

  private void copyConfig() throws IOException {
    Files.copy(DEMO.resolve("config.json"), bare.resolve("config.json"));
    Files.copy(DEMO.resolve("generation_config.json"), bare.resolve("generation_config.json"));
  }

  @Test
  void weightsInMemoryAnswerAsThoseOfTheFolder() throws IOException {
    copyConfig();
    List<Supplier<Device>> devices = List.of(() -> CpuDevice.open(2), TestCuda::open);
    for (Supplier<Device> device : devices) {
      int[] expected;
      try (LanguageModel model = options(DEMO).device(device.get()).open()) {
        expected = answer(model);
      }
      assertTrue(expected.length > 0);
      try (Arena arena = Arena.ofShared()) {
        Checkpoint checkpoint = Checkpoint.of("weights in memory", copies(arena));
        try (LanguageModel model = options(bare).device(device.get()).weights(checkpoint).open()) {
          assertArrayEquals(expected, answer(model));
        }
      }
    }
  }

  @Test
  void failureClosesDeviceAndCheckpoint() throws IOException {
    Device device = CpuDevice.open(1);
    Checkpoint checkpoint = Checkpoint.open(DEMO);
    TensorView norm = checkpoint.tensor("model.norm.weight");
    assertThrows(
        BadFileException.class, () -> options(bare).device(device).weights(checkpoint).open());
    assertThrows(IllegalStateException.class, () -> device.allocate(1));
    assertThrows(IllegalStateException.class, norm::toFloats);

    copyConfig();
    Device other = CpuDevice.open(1);
    Checkpoint empty = Checkpoint.of("nothing", Map.of());
    var error =
        assertThrows(
            BadFileException.class, () -> options(bare).device(other).weights(empty).open());
    assertTrue(error.getMessage().startsWith("nothing: has no tensor"), error.getMessage());
    assertThrows(IllegalStateException.class, () -> other.allocate(1));

    Device third = CpuDevice.open(1);
    assertThrows(BadFileException.class, () -> options(bare).device(third).open());
    assertThrows(IllegalStateException.class, () -> third.allocate(1));
  }
}
