package dev.halter.serving;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.serving.TestServer.DEMO;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code /v1/neurons/search}: what {@code halter neurons} finds. */
class NeuronRoutesTest {
  private static final String PATH = "/v1/neurons/search";

  @TempDir static Path folder;

  private static TestServer server;
  private static Path map;

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.start();
    map = folder.resolve("map.safetensors");
    halter("map", "--model", DEMO, "--device", "cpu", "--out", map, "--json").json();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static JsonNode neurons(Object... options) {
    List<Object> all = new ArrayList<>(List.of("neurons", "--model", DEMO, "--map", map, "--json"));
    all.addAll(List.of(options));
    return halter(all.toArray()).json();
  }

  @Test
  void rowsAreThoseOfHalterNeurons() {
    JsonNode answer = server.post(PATH, "{'token': 'dog', 'top': 3}").ok();
    assertEquals(List.of("object", "map", "data"), CommandLineRun.keys(answer));
    assertEquals("up", answer.get("map").get("proj").asText());
    assertEquals(neurons("--token", "dog", "--top", 3), answer.get("data"));
    assertEquals(
        neurons("--token", "dog", "--token", "cat", "--layers", "1..2", "--min-probability", 0.01),
        server
            .post(
                PATH,
                "{'token': ['dog', 'cat'], 'layers': [1, 2], 'min_probability': 0.01, 'proj':"
                    + " 'up'}")
            .ok()
            .get("data"));
    assertEquals(
        neurons("--neuron", Demo.DOG_ADDRESS, "--top", 4),
        server.post(PATH, "{'neuron': '" + Demo.DOG_ADDRESS + "', 'top': 4}").ok().get("data"));
    int id = answer.get("data").get(0).get("token_id").asInt();
    JsonNode byId = server.post(PATH, "{'token_ids': [" + id + "], 'sign': 'plus'}").ok();
    assertTrue(byId.get("data").size() > 0);
    for (JsonNode row : byId.get("data")) {
      assertEquals(id, row.get("token_id").asInt());
      assertEquals(1, row.get("sign").asInt());
    }
    JsonNode pieces = server.post(PATH, "{'text': ' dog cat', 'top': 500}").ok().get("data");
    assertEquals(
        List.of(" cat", " dog"),
        pieces.findValuesAsText("token").stream().distinct().sorted().toList());
  }

  @Test
  void mapsAreMadeWhileRequestsGoOn() throws Exception {
    String alone = server.complete("");
    try (TestServer other = TestServer.start();
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<String>> texts = new ArrayList<>();
      List<Future<JsonNode>> searches = new ArrayList<>();
      for (String proj : List.of("up", "gate", "down", "up")) {
        String body = "{'token': 'dog', 'proj': '" + proj + "'}";
        searches.add(threads.submit(() -> other.post(PATH, body).ok()));
        for (int i = 0; i < 8; i++) {
          texts.add(threads.submit(() -> other.complete("")));
        }
      }
      for (Future<String> text : texts) {
        assertEquals(alone, text.get());
      }
      assertEquals("down", searches.get(2).get().get("map").get("proj").asText());
      assertEquals(neurons("--token", "dog"), searches.get(3).get().get("data"));
    }
  }

  @Test
  void aMapOfAFileIsTheFirst() throws IOException {
    Path unit = folder.resolve("unit.safetensors");
    halter(
            "map",
            "--model",
            DEMO,
            "--device",
            "cpu",
            "--decode",
            "unit",
            "--sign",
            "plus",
            "--top",
            2,
            "--out",
            unit,
            "--json")
        .json();
    try (TestServer given = setup().maps(unit).start()) {
      JsonNode answer = given.post(PATH, "{'neuron': '0.1'}").ok();
      assertEquals("unit", answer.get("map").get("decode").asText());
      assertEquals(2, answer.get("data").size());
      assertEquals(
          "raw",
          given
              .post(PATH, "{'neuron': '0.1', 'decode': 'raw'}")
              .ok()
              .get("map")
              .get("decode")
              .asText());
    }
    assertThrows(BadFileException.class, () -> setup().maps(unit, unit).start());
    Path foreign = folder.resolve("foreign.safetensors");
    Path model = CommandLineRun.golden("llama3").resolve("model");
    halter("map", "--model", model, "--device", "cpu", "--out", foreign, "--json").json();
    String message =
        assertThrows(BadFileException.class, () -> setup().maps(foreign).start()).getMessage();
    assertTrue(message.contains("another model"), message);
  }

  @Test
  void questionsThatAreNoneAreRefused() {
    String[][] wrong = {
      {"{}", "token", "exactly one"},
      {"{'token': 'dog', 'neuron': '1.2'}", "token", "exactly one"},
      {"{'neuron': 'dog'}", "neuron", "LAYER.NEURON"},
      {"{'neuron': '9.1'}", "neuron", "no neuron 9.1"},
      {"{'token': 'antidisestablishmentarianism'}", "token", "no single token"},
      {"{'token': []}", "token", "at least one"},
      {"{'token': 'dog', 'sign': 'up'}", "sign", "both, plus, minus"},
      {"{'token': 'dog', 'layers': [2, 9]}", "layers", "layers 0 to"},
      {"{'token': 'dog', 'top': 0}", "top", "1 to"},
      {"{'token': 'dog', 'tops': 1}", "tops", "means nothing here"},
      {"{'token_ids': [99999]}", "token_ids", "99999"},
    };
    for (String[] each : wrong) {
      JsonNode error = server.post(PATH, each[0]).error(400);
      assertEquals(each[1], error.get("param").asText(), each[0] + error);
      assertTrue(error.get("message").asText().contains(each[2]), each[0] + ": " + error);
    }
  }
}
