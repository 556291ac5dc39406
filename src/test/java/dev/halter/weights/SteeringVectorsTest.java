package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class SteeringVectorsTest {
  @TempDir Path folder;
  private final String one = "one.safetensors";
  private final String many = "many.safetensors";
  private final String gguf = "v.gguf";

  @BeforeEach
  void writeVectors() throws IOException {
    try (var out =
        SafetensorsWriter.create(
            folder.resolve(one), Map.of(), List.of(new TensorSpec("v", DType.F32, 1, 3)))) {
      out.write("v", new float[] {1, 2, 3});
    }
    try (var out =
        SafetensorsWriter.create(
            folder.resolve(many),
            Map.of(),
            List.of(
                new TensorSpec("a#b", DType.F32, 3),
                new TensorSpec("ids", DType.I32, 3),
                new TensorSpec("matrix", DType.F32, 3, 2),
                new TensorSpec("nan", DType.F32, 3)))) {
      out.write("a#b", new float[] {4, 5, 6});
      out.write("ids", new int[] {1, 2, 3});
      out.write("matrix", new float[6]);
      out.write("nan", new float[] {0, Float.NaN, 0});
    }
    Files.write(folder.resolve(gguf), ControlVectorTest.repeng().bytes());
  }

  @Test
  void readsTheOnlyTensorOrTheOneNamed() {
    assertArrayEquals(new float[] {1, 2, 3}, SteeringVectors.read(folder, one, 9, 0, 3));
    assertArrayEquals(new float[] {1, 2, 3}, SteeringVectors.read(folder, one + "#v", 9, 0, 3));
    assertArrayEquals(new float[] {4, 5, 6}, SteeringVectors.read(folder, many + "#a#b", 9, 0, 3));
  }

  @Test
  void readsF64AsTheNearestF32() {
    Path file = folder.resolve("double.safetensors");
    double[] values = {-1.5, 1.0 / 3, 1e-30};
    try (var out =
            SafetensorsWriter.create(file, Map.of(), List.of(new TensorSpec("v", DType.F64, 3)));
        Arena arena = Arena.ofConfined()) {
      out.write("v", arena.allocateFrom(ValueLayout.JAVA_DOUBLE, values));
    }
    assertArrayEquals(
        new float[] {-1.5f, 1f / 3, 1e-30f},
        SteeringVectors.read(Path.of("elsewhere"), file.toString(), 0, 0, 3));
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void readsAllWeightTypes(DType dtype) {
    Path file = folder.resolve("typed.safetensors");
    try (var out =
        SafetensorsWriter.create(file, Map.of(), List.of(new TensorSpec("v", dtype, 2)))) {
      out.write("v", new float[] {-1.5f, 0.25f});
    }
    assertArrayEquals(
        new float[] {-1.5f, 0.25f},
        SteeringVectors.read(Path.of("elsewhere"), file.toString(), 0, 0, 2));
  }

  @Test
  void readsTheDirectionOfTheLayerShifted() {
    assertArrayEquals(new float[] {1, 2, 3}, SteeringVectors.read(folder, gguf, 1, 0, 3));
    assertArrayEquals(new float[] {-4, 5, 0.5f}, SteeringVectors.read(folder, gguf, 2, 0, 3));
    assertArrayEquals(new float[] {-4, 5, 0.5f}, SteeringVectors.read(folder, gguf, 1, 1, 3));
    assertArrayEquals(new float[] {1, 2, 3}, SteeringVectors.read(folder, gguf, 2, -1, 3));
  }

  @ParameterizedTest
  @CsvSource({
    "one.safetensors, 0, 4, no vector of 4 values",
    "one.safetensors#w, 0, 3, no tensor \"w\"",
    "many.safetensors, 0, 3, holds 4 tensors",
    "many.safetensors#ids, 0, 3, is I32",
    "many.safetensors#matrix, 0, 6, no vector of 6 values",
    "many.safetensors#nan, 0, 3, holds NaN at index 1",
    "none.safetensors, 0, 3, no such file",
    "v.gguf, 0, 3, no direction.0",
    "v.gguf, 3, 3, directions 1 to 2",
    "v.gguf, 1, 4, \"direction.1\" [3] is no vector of 4 values",
    "v.npy, 0, 3, must be FILE.safetensors",
  })
  void refusesAndNamesFileAndTensor(String name, int layer, int length, String expected) {
    String path = folder.resolve(name).toString();
    String message =
        assertThrows(
                BadFileException.class, () -> SteeringVectors.read(folder, name, layer, 0, length))
            .getMessage();
    assertTrue(message.startsWith(path.replaceAll("#.*", "")), message);
    assertTrue(message.contains(expected), message);
  }
}
