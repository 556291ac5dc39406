package dev.halter.weights;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FingerprintTest {
  @TempDir Path folder;

  private static ModelConfig config(String change) {
    String json = CheckpointTest.CONFIG.formatted(false).replaceFirst("\\{", "{" + change);
    return ModelConfig.parse(Path.of("config.json"), json.getBytes(StandardCharsets.UTF_8));
  }

  private static String fingerprint(ModelConfig config, Path folder) {
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      return Fingerprint.of(config, checkpoint);
    }
  }

  @Test
  void dependsOnTheModelAndNotOnItsFiles() throws IOException {
    ModelConfig config = config("");
    Map<String, long[]> tensors = TensorNames.expected(config);
    CheckpointTest.write(folder.resolve("model.safetensors"), tensors);
    String fingerprint = fingerprint(config, folder);
    assertTrue(fingerprint.matches("[0-9a-f]{64}"), fingerprint);

    Path sharded = Files.createDirectory(folder.resolve("sharded"));
    Map<String, long[]> first = new LinkedHashMap<>();
    Map<String, long[]> second = new LinkedHashMap<>();
    StringBuilder index = new StringBuilder();
    for (String name : tensors.keySet()) {
      boolean one = name.contains("layers.1");
      (one ? first : second).put(name, tensors.get(name));
      index.append(index.isEmpty() ? "" : ",");
      index.append('"').append(name).append("\":\"").append(one ? "a" : "b");
      index.append(".safetensors\"");
    }
    CheckpointTest.write(sharded.resolve("a.safetensors"), first);
    CheckpointTest.write(sharded.resolve("b.safetensors"), second);
    Files.writeString(
        sharded.resolve("model.safetensors.index.json"), "{\"weight_map\":{" + index + "}}");
    assertEquals(fingerprint, fingerprint(config, sharded));

    assertEquals(fingerprint, fingerprint(config("\"eos_token_id\":3,"), folder));
    assertNotEquals(fingerprint, fingerprint(config("\"rope_theta\":5000,"), folder));
    assertNotEquals(fingerprint, fingerprint(config("\"rms_norm_eps\":0.1,"), folder));
  }

  @Test
  void seesTheFirstAndTheLastBytesOfATensor() throws IOException {
    ModelConfig config = config("");
    Path file = folder.resolve("model.safetensors");
    CheckpointTest.write(file, Map.of("x", new long[] {5000}));
    String fingerprint = fingerprint(config, folder);
    byte[] bytes = Files.readAllBytes(file);
    int start = 8 + (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    for (int changed : new int[] {start, start + 4095, bytes.length - 4096, bytes.length - 1}) {
      byte[] other = bytes.clone();
      other[changed] ^= 1;
      Files.write(file, other);
      assertNotEquals(fingerprint, fingerprint(config, folder), "byte " + changed);
    }
  }
}
