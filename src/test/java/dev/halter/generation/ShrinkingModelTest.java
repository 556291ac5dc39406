package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.model.Llama;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The CPU reads weights where they are mapped: a page that is gone would end the process. */
class ShrinkingModelTest {
  @TempDir Path folder;

  @Test
  void aModelFileThatGetsShorterIsAnErrorOfTheNextStep() throws IOException {
    try (Stream<Path> files = Files.list(Path.of("src/test/resources/goldens/llama3/model"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve(file.getFileName()));
      }
    }
    Path weights = folder.resolve("model.safetensors");
    try (Device device = CpuDevice.open(1);
        Llama model = Llama.load(folder, device, DType.F32, new Llama.Limits(8, 4, 4, 4, 64));
        Engine engine = new Engine(model)) {
      Request request = Request.greedy("r", new int[] {5, 6}, 2, Set.of());
      engine.run(request).orThrow();
      // Another file of that name is none of its business.
      Path moved = Files.move(weights, folder.resolve("moved"));
      Files.writeString(weights, "short");
      engine.run(request).orThrow();
      try (FileChannel file = FileChannel.open(moved, StandardOpenOption.WRITE)) {
        file.truncate(file.size() / 2);
      }
      String message = assertThrows(BadFileException.class, () -> engine.run(request)).getMessage();
      assertTrue(message.contains(weights + ": got shorter"), message);
    }
  }
}
