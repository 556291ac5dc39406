package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ModelCopyTest {
  @TempDir Path folder;
  private Path model;
  private Path copy;

  /** Two shards: before, [2, 3] of the type, after. */
  @BeforeEach
  void write() throws IOException {
    model = Files.createDirectory(folder.resolve("model"));
    copy = folder.resolve("copy");
    Files.writeString(model.resolve("config.json"), "{}");
    Files.writeString(model.resolve("pytorch_model.bin"), "other weights");
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      Path shard = model.resolve("model-" + type + ".safetensors");
      List<TensorSpec> specs =
          List.of(
              new TensorSpec("before." + type, type, 5),
              new TensorSpec("w." + type, type, 2, 3),
              new TensorSpec("after." + type, type, 5));
      try (var out = SafetensorsWriter.create(shard, Map.of("made", "by hand"), specs)) {
        out.write("before." + type, new float[] {1, 2, 3, 4, 5});
        out.write("w." + type, new float[] {1, 2, 3, 4, 5, 6});
        out.write("after." + type, new float[] {6, 7, 8, 9, 10});
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void onlyTheElementsSetAreOthers(DType type) throws IOException {
    try (ModelCopy edited = ModelCopy.of(model, copy)) {
      edited.set("w." + type, 1, 3, new float[] {-20, -50});
      edited.set("w." + type, 3, 1, new float[] {0.5f, -0.25f});
      edited.finish();
    }
    String shard = "model-" + type + ".safetensors";
    try (Safetensors tensors = Safetensors.open(copy.resolve(shard))) {
      assertArrayEquals(
          new float[] {1, -20, 3, 0.5f, -0.25f, 6}, tensors.tensor("w." + type).toFloats());
      assertArrayEquals(new float[] {1, 2, 3, 4, 5}, tensors.tensor("before." + type).toFloats());
      assertArrayEquals(new float[] {6, 7, 8, 9, 10}, tensors.tensor("after." + type).toFloats());
      assertEquals(Map.of("made", "by hand"), tensors.metadata());
    }
    for (String name : List.of("F32", "F16", "BF16")) {
      String other = "model-" + name + ".safetensors";
      boolean same = Files.mismatch(model.resolve(other), copy.resolve(other)) == -1;
      assertEquals(!other.equals(shard), same, other);
    }
    assertEquals("{}", Files.readString(copy.resolve("config.json")));
    assertFalse(Files.exists(copy.resolve("pytorch_model.bin")), "unchanged weights were copied");
  }

  @Test
  void whatIsNotFinishedLeavesNothing() throws IOException {
    try (ModelCopy edited = ModelCopy.of(model, copy)) {
      edited.set("w.F32", 0, 1, new float[] {9});
    }
    try (var left = Files.list(folder)) {
      assertEquals(List.of(model), left.toList());
    }
  }

  @Test
  void neitherAnExistingFolderNorElementsThatAreNotThereAreWritten() throws IOException {
    Files.createDirectory(copy);
    assertTrue(
        assertThrows(IllegalArgumentException.class, () -> ModelCopy.of(model, copy))
            .getMessage()
            .contains("exists already"));
    Files.delete(copy);
    try (ModelCopy edited = ModelCopy.of(model, copy)) {
      assertThrows(
          IndexOutOfBoundsException.class, () -> edited.set("w.F32", 3, 3, new float[] {1, 2}));
      assertThrows(IllegalArgumentException.class, () -> edited.set("x", 0, 1, new float[] {1}));
    }
  }
}
