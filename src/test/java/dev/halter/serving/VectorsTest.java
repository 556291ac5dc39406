package dev.halter.serving;

import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.device.DType;
import dev.halter.model.Head;
import dev.halter.steering.HeadControl;
import dev.halter.weights.ControlVector;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code /v1/vectors} lists of the folder of plans. */
class VectorsTest {
  private static final int D_MODEL = Demo.CONFIG.dModel();
  private static final int D_HEAD = Demo.CONFIG.dHead();

  @TempDir Path folder;

  private static float[] random(int length) {
    Random random = new Random(length);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static void tensors(Path file, Map<String, String> metadata, Map<String, long[]> shapes) {
    List<TensorSpec> specs = new ArrayList<>();
    shapes.forEach((name, shape) -> specs.add(new TensorSpec(name, DType.F32, shape)));
    try (SafetensorsWriter out = SafetensorsWriter.create(file, metadata, specs)) {
      shapes.forEach((name, shape) -> out.write(name, random((int) (shape[0] * shape[1]))));
    }
  }

  /** One of each kind for the demo model. */
  static void writeAll(Path folder) throws IOException {
    TreeMap<Integer, float[]> directions = new TreeMap<>();
    directions.put(1, random(D_MODEL));
    directions.put(2, random(D_MODEL));
    new ControlVector(Optional.of("llama"), Optional.empty(), directions)
        .write(folder.resolve("happy.gguf"));
    tensors(
        folder.resolve("v.safetensors"),
        Map.of(),
        new TreeMap<>(
            Map.of(
                "calm", new long[] {1, D_MODEL},
                "rude", new long[] {1, D_MODEL},
                "short", new long[] {1, D_MODEL - 1})));
    tensors(
        folder.resolve("concepts.safetensors"),
        Map.of("names", "[\"harm\", \"help\"]"),
        Map.of("atoms.2", new long[] {2, D_MODEL}));
    new HeadControl(
            "of another model",
            new HashMap<>(Map.of("method", "test")),
            List.of(new Head(0, 2), new Head(3, 5)),
            random(2 * D_HEAD * D_HEAD),
            random(2 * D_HEAD))
        .write(folder.resolve("control.safetensors"));
    tensors(folder.resolve("wide.safetensors"), Map.of(), Map.of("v", new long[] {1, 7}));
    Files.writeString(folder.resolve("bad.gguf"), "GGUF");
    Files.writeString(folder.resolve("notes.txt"), "nothing to name");
  }

  @Test
  void eachKindIsListedAndWhatCannotBeUsedSaysWhy() throws IOException {
    writeAll(folder);
    try (TestServer server = setup().plans(folder).start()) {
      Map<String, JsonNode> listed = new TreeMap<>();
      server
          .get("/v1/vectors")
          .ok()
          .get("data")
          .forEach(each -> listed.put(each.get("name").asText(), each));
      assertEquals(
          List.of(
              "bad.gguf",
              "concepts.safetensors",
              "control.safetensors",
              "happy.gguf",
              "v.safetensors",
              "wide.safetensors"),
          List.copyOf(listed.keySet()));
      assertIs("{'kind': 'control_vector', 'layers': [1, 2]}", listed.get("happy.gguf"));
      assertIs("{'kind': 'vectors', 'tensors': ['calm', 'rude']}", listed.get("v.safetensors"));
      assertIs(
          "{'kind': 'dictionary', 'layers': [2], 'size': 2}", listed.get("concepts.safetensors"));
      assertIs(
          "{'kind': 'head_control', 'heads': ['0.2', '3.5']}", listed.get("control.safetensors"));
      assertEquals(
          "wide.safetensors: has no vector of " + D_MODEL + " values",
          listed.get("wide.safetensors").get("error").asText());
      String bad = listed.get("bad.gguf").get("error").asText();
      assertTrue(bad.startsWith("bad.gguf: ") && !bad.contains(folder.toString()), bad);

      JsonNode one = server.get("/v1/vectors/concepts.safetensors").ok();
      assertEquals("[\"harm\",\"help\"]", one.get("concepts").toString());
      for (String none : List.of("notes.txt", "none", "../concepts.safetensors")) {
        server.get("/v1/vectors/" + none).error(404);
      }
    }
  }

  private static void assertIs(String expected, JsonNode listed) {
    JsonNode wanted = CommandLineRun.parse(expected.replace('\'', '"'));
    CommandLineRun.keys(wanted).forEach(key -> assertEquals(wanted.get(key), listed.get(key)));
    assertFalse(listed.has("concepts") || listed.has("error"), listed.toString());
  }

  @Test
  void aServerWithoutAFolderHasNone() throws IOException {
    try (TestServer server = setup().plans(null).start()) {
      assertTrue(server.get("/v1/vectors").ok().get("data").isEmpty());
    }
  }
}
