package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static dev.halter.cli.CommandLineRun.parse;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter capture}: names, shapes and values of the dump, plans, bad lines. */
class CaptureTest {
  private final Path model = golden("llama3").resolve("model");

  @TempDir Path folder;

  private CommandLineRun capture(String sites, String... lines) throws IOException {
    Files.write(folder.resolve("in.jsonl"), List.of(lines));
    return halter(
        "capture",
        "--json",
        "--model",
        model,
        "--in",
        folder.resolve("in.jsonl"),
        "--out",
        folder.resolve("dump.safetensors"),
        "--sites",
        sites);
  }

  private Safetensors dump() {
    return Safetensors.open(folder.resolve("dump.safetensors"));
  }

  @Test
  void tensorsAreNamedAndShapedBySiteWithoutABatchAxis() throws IOException {
    JsonNode summary =
        capture(
                "logits,blocks.*.attn.hook_z,blocks.1.attn.hook_pattern,blocks.2.hook_resid_post",
                "{\"id\":\"one\",\"tokens\":[3,4,5]}",
                "{\"id\":2,\"tokens\":[6]}")
            .json();
    assertEquals(List.of("lines", "captured", "failed", "sites", "out"), keys(summary));
    try (Safetensors dump = dump()) {
      assertEquals(12, dump.names().size());
      assertTrue(dump.tensor("one/logits").hasShape(3, 128));
      for (int layer = 0; layer < 3; layer++) {
        assertTrue(dump.tensor("one/blocks." + layer + ".attn.hook_z").hasShape(3, 6, 8));
      }
      assertTrue(dump.tensor("one/blocks.1.attn.hook_pattern").hasShape(6, 3, 3));
      assertTrue(dump.tensor("one/blocks.2.hook_resid_post").hasShape(3, 48));
      assertTrue(dump.tensor("2/logits").hasShape(1, 128));
      assertArrayEquals(
          new float[] {1, 1, 1, 1, 1, 1}, dump.tensor("2/blocks.1.attn.hook_pattern").toFloats());
    } catch (IllegalArgumentException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void allSitesHoldWhatTransformersComputes() throws IOException {
    JsonNode cases = parse(Files.readString(golden("llama3").resolve("cases.json")));
    for (JsonNode json : cases.get("forward")) {
      if (json.get("sites").isEmpty()) {
        continue;
      }
      String id = json.get("id").asText();
      capture("all", "{\"id\":\"" + id + "\",\"tokens\":" + json.get("tokens") + "}").json();
      try (Safetensors dump = dump();
          Safetensors expected =
              Safetensors.open(golden("llama3").resolve("expected.safetensors"))) {
        for (JsonNode site : json.get("sites")) {
          String name = id + "/" + site.asText();
          float[] wanted = expected.tensor(name).toFloats();
          float[] found = dump.tensor(name).toFloats();
          assertArrayEquals(expected.tensor(name).shape(), dump.tensor(name).shape(), name);
          float largest = 0;
          for (float value : wanted) {
            largest = Math.max(largest, Math.abs(value));
          }
          assertArrayEquals(wanted, found, 2e-4f * largest, name);
        }
      }
    }
  }

  @Test
  void aPlanActsOnItsLineAlone() throws IOException {
    String plan =
        "{\"interventions\":[{\"op\":\"neuron_clamp\",\"site\":\"blocks.1.mlp.hook_post\","
            + "\"neurons\":[4],\"value\":7.5}]}";
    capture(
            "blocks.1.mlp.hook_post,logits",
            "{\"id\":\"plain\",\"tokens\":[9,10]}",
            "{\"id\":\"steered\",\"tokens\":[9,10],\"plan\":" + plan + "}")
        .json();
    try (Safetensors dump = dump()) {
      float[] plain = dump.tensor("plain/blocks.1.mlp.hook_post").toFloats();
      float[] steered = dump.tensor("steered/blocks.1.mlp.hook_post").toFloats();
      plain[4] = 7.5f;
      plain[80 + 4] = 7.5f;
      assertArrayEquals(plain, steered, 1e-6f);
      assertFalse(
          Arrays.equals(
              dump.tensor("plain/logits").toFloats(), dump.tensor("steered/logits").toFloats()));
    }
  }

  @Test
  void badLinesAreNamedAndTheRestIsWritten() throws IOException {
    CommandLineRun run =
        capture(
            "hook_embed",
            "{\"id\":\"good\",\"tokens\":[3]}",
            "{\"id\":\"good\",\"tokens\":[4]}",
            "nonsense",
            "{\"id\":\"far\",\"tokens\":[128]}",
            "{\"id\":\"text\",\"prompt\":\"a\"}",
            "{\"id\":\"long\",\"tokens\":[1" + ",1".repeat(600) + "]}",
            "{\"id\":\"limit\",\"tokens\":[1],\"max_tokens\":3}",
            "{\"id\":\"also good\",\"tokens\":[5,6]}");
    assertEquals(1, run.code());
    assertEquals(2, parse(run.out()).get("captured").asInt());
    for (String what :
        List.of("line 2", "line 3", "id \"far\"", "id \"text\"", "id \"long\"", "id \"limit\"")) {
      assertTrue(run.err().contains(what), what + " in " + run.err());
    }
    try (Safetensors dump = dump()) {
      assertEquals(Set.of("good/hook_embed", "also good/hook_embed"), dump.names());
    }
  }

  @Test
  void aSiteThatIsNotThereIsRefusedBeforeAnythingIsWritten() throws IOException {
    for (String sites : List.of("blocks.3.hook_resid_post", "hook_nose", "blocks.x.hook_z")) {
      String error = capture(sites, "{\"id\":1,\"tokens\":[3]}").error(1);
      assertTrue(error.contains(sites), error);
    }
    assertFalse(Files.exists(folder.resolve("dump.safetensors")));
    String unwritable = folder.resolve("no/folder/dump.safetensors").toString();
    String error =
        halter(
                "capture",
                "--model",
                model,
                "--in",
                folder.resolve("in.jsonl"),
                "--out",
                unwritable,
                "--sites",
                "logits")
            .error(1);
    assertTrue(error.contains(unwritable), error);
  }
}
