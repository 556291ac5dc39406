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

  private static LanguageModel.Options options(Path folder) {
    return new LanguageModel.Options(folder, "auto", "f32", 2, 64, 4);
  }

  private static int[] answer(LanguageModel model) {
    Request request = Request.greedy("r", new int[] {5, 9, 17, 30}, 12, model.stopTokens());
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
      try (LanguageModel model = LanguageModel.open(options(DEMO), device.get())) {
        expected = answer(model);
      }
      assertTrue(expected.length > 0);
      try (Arena arena = Arena.ofShared()) {
        Checkpoint checkpoint = Checkpoint.of("weights in memory", copies(arena));
        try (LanguageModel model = LanguageModel.open(options(bare), device.get(), checkpoint)) {
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
        BadFileException.class, () -> LanguageModel.open(options(bare), device, checkpoint));
    assertThrows(IllegalStateException.class, () -> device.allocate(1));
    assertThrows(IllegalStateException.class, norm::toFloats);

    copyConfig();
    Device other = CpuDevice.open(1);
    Checkpoint empty = Checkpoint.of("nothing", Map.of());
    var error =
        assertThrows(BadFileException.class, () -> LanguageModel.open(options(bare), other, empty));
    assertTrue(error.getMessage().startsWith("nothing: has no tensor"), error.getMessage());
    assertThrows(IllegalStateException.class, () -> other.allocate(1));

    Device third = CpuDevice.open(1);
    assertThrows(BadFileException.class, () -> LanguageModel.open(options(bare), third));
    assertThrows(IllegalStateException.class, () -> third.allocate(1));
  }
}
