package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.model.Llama;
import dev.halter.neurons.NeuronMap;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The CPU reads weights where they are mapped: what it makes of pages that are gone is no result.
 */
class ShrinkingModelTest {
  @TempDir Path folder;

  private void withModel(Consumer<Llama> test) throws IOException {
    try (Stream<Path> files = Files.list(Path.of("src/test/resources/goldens/llama3/model"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve(file.getFileName()));
      }
    }
    try (Device device = CpuDevice.open(1);
        Llama model = Llama.load(folder, device, DType.F32, new Llama.Limits(8, 4, 4, 4, 64))) {
      test.accept(model);
    }
  }

  private static void cut(Path weights) {
    try (FileChannel file = FileChannel.open(weights, StandardOpenOption.WRITE)) {
      file.truncate(4096);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Test
  void aModelFileThatGetsShorterIsAnErrorOfTheNextStep() throws IOException {
    Path weights = folder.resolve("model.safetensors");
    withModel(
        model -> {
          try (Engine engine = new Engine(model)) {
            Request request = Request.of(new int[] {5, 6}).withId("r").withMaxTokens(2);
            engine.run(request).orThrow();
            // Another file of that name is none of its business.
            Path moved = Files.move(weights, folder.resolve("moved"));
            Files.writeString(weights, "short");
            engine.run(request).orThrow();
            cut(moved);
            assertShorter(() -> engine.run(request));
          } catch (IOException e) {
            throw new UncheckedIOException(e);
          }
        });
  }

  /** In its midst, and beside the model's own steps. */
  @Test
  void aMapOfLostNeuronsIsNone() throws IOException {
    withModel(
        model ->
            assertShorter(
                () ->
                    NeuronMap.of(
                        model,
                        NeuronMap.Projection.UP,
                        NeuronMap.Decode.RAW,
                        NeuronMap.Sign.BOTH,
                        4,
                        this::cutAtOnce)));
  }

  @Test
  void effectsThroughLostWeightsAreNone() throws IOException {
    Pair pair =
        new Pair(
            new int[] {5, 6, 7}, new int[] {5, 8, 7}, 3, OptionalInt.empty(), Map.of(), "pair");
    withModel(
        model ->
            assertShorter(
                () ->
                    PathPatching.of(
                        model,
                        List.of(pair),
                        PathPatching.Variant.RECOMPUTE,
                        true,
                        this::cutAtOnce)));
  }

  private void cutAtOnce(int done) {
    cut(folder.resolve("model.safetensors"));
  }

  private void assertShorter(Runnable work) {
    String message = assertThrows(BadFileException.class, work::run).getMessage();
    String expected = folder.resolve("model.safetensors") + ": got shorter";
    assertTrue(message.contains(expected), message);
  }
}
