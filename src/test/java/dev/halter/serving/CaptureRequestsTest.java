package dev.halter.serving;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.serving.TestServer.DEMO;
import static dev.halter.serving.TestServer.DOG;
import static dev.halter.serving.TestServer.PLANS;
import static dev.halter.serving.TestServer.QUESTION;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The field {@code "capture"}: activations that come with an answer. */
class CaptureRequestsTest {
  private static final String SITES =
      "['blocks.*.hook_resid_post', 'blocks.1.attn.hook_pattern', 'blocks.0.attn.hook_z', 'logits']";

  @TempDir static Path folder;

  private static TestServer server;

  @BeforeAll
  static void start() throws IOException {
    server = setup().keys(Files.writeString(folder.resolve("keys"), "sesame\nopen")).start();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static TestServer.Reply post(String path, String body) {
    return server.post(path, body, "Authorization", "Bearer sesame");
  }

  private static String body(String fields) {
    return "{'prompt': '" + QUESTION + "', 'temperature': 0, 'max_tokens': 20, " + fields + "}";
  }

  private static JsonNode capture(String fields) {
    return post("/v1/completions", body(fields)).ok().get("halter").get("capture");
  }

  private static Safetensors file(JsonNode capture) throws IOException {
    byte[] bytes = Base64.getDecoder().decode(capture.get("base64").asText());
    assertEquals(capture.get("bytes").asInt(), bytes.length);
    return Safetensors.open(Files.write(folder.resolve("capture.safetensors"), bytes));
  }

  private static int[] ints(JsonNode list) {
    return IntStream.range(0, list.size()).map(i -> list.get(i).asInt()).toArray();
  }

  private static int[] positions(JsonNode capture, int answer) {
    return ints(capture.get("positions").get(answer));
  }

  @Test
  void valuesAreThoseOfHalterCaptureToTheBitWhateverRunsBeside() throws Exception {
    Path in = folder.resolve("in.jsonl");
    String line = "{\"id\":\"%s\",\"tokens\":%s%s}\n";
    String tokens = Arrays.toString(server.model.tokenizer().encode(QUESTION, false));
    String plan = ",\"plan\":\"" + PLANS.resolve("dogs.json").toAbsolutePath() + "\"";
    Files.writeString(
        in, line.formatted("plain", tokens, "") + line.formatted("dogs", tokens, plan));
    Path out = folder.resolve("dump.safetensors");
    String sites = SITES.replaceAll("[\\[\\]' ]", "");
    halter("capture", "--model", DEMO, "--in", in, "--out", out, "--sites", sites, "--json").json();
    String alone = server.complete("", "Authorization", "Bearer sesame");
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
        Safetensors dump = Safetensors.open(out)) {
      for (String id : List.of("plain", "dogs")) {
        List<Future<String>> neighbours = new ArrayList<>();
        for (int i = 0; i < 24; i++) { // that share the prompt's beginning, or read it first
          neighbours.add(
              threads.submit(() -> server.complete("", "Authorization", "Bearer sesame")));
        }
        String field = id.equals("plain") ? "" : "'plan': 'dogs', ";
        JsonNode capture = capture(field + "'capture': {'sites': " + SITES + "}");
        for (Future<String> neighbour : neighbours) {
          assertEquals(alone, neighbour.get());
        }
        try (Safetensors given = file(capture)) {
          assertEquals("halter capture", given.metadata().get("format"));
          assertEquals(dump.names().size() / 2, given.names().size());
          for (String name : given.names()) {
            String written = name.replaceFirst("^0/", id + "/");
            assertArrayEquals(dump.tensor(written).shape(), given.tensor(name).shape(), name);
            assertArrayEquals(dump.tensor(written).toFloats(), given.tensor(name).toFloats(), name);
          }
        }
      }
      assertFalse(
          Arrays.equals(
              dump.tensor("plain/logits").toFloats(), dump.tensor("dogs/logits").toFloats()));
    }
  }

  @Test
  void positionsAreOfPromptAndGeneration() throws IOException {
    int[] prompt = server.model.tokenizer().encode(QUESTION, false);
    int n = prompt.length;
    Site site = Site.of("blocks.1.hook_resid_post");
    String sites = "'capture': {'sites': 'blocks.1.hook_resid_post', 'positions': %s}";
    assertArrayEquals(new int[] {n - 1}, positions(capture(sites.formatted("'last'")), 0));
    assertArrayEquals(
        new int[] {0, 2, n - 1}, positions(capture(sites.formatted("[-1, 2, 0]")), 0));
    JsonNode answer =
        post(
                "/v1/completions",
                body(
                    "'return_token_ids': true, "
                        + sites.formatted("{'prompt_positions': [-2], 'generation': 'all'}")))
            .ok();
    int[] generated = ints(answer.get("choices").get(0).get("token_ids"));
    JsonNode capture = answer.get("halter").get("capture");
    int[] positions = positions(capture, 0);
    assertEquals(n - 2, positions[0]);
    assertEquals(n, positions[1]);
    // All but the end, which is not fed back.
    assertEquals(1 + generated.length - 1, positions.length);
    int[] all = Arrays.copyOf(prompt, n + generated.length - 1);
    System.arraycopy(generated, 0, all, n, generated.length - 1);
    Capture whole = new Capture(server.model.config(), Set.of(site), all.length);
    // By a second model, since the server's belongs to the server.
    try (LanguageModel model = LanguageModel.at(DEMO).device("cpu").threads(1).open();
        Safetensors given = file(capture)) {
      model.engine().run(Request.of(all).withMaxTokens(0).with(whole)).orThrow();
      float[] values = given.tensor("0/" + site.name()).toFloats();
      int width = site.width(model.config());
      for (int row = 0; row < positions.length; row++) {
        assertArrayEquals(
            whole.at(site, positions[row]),
            Arrays.copyOfRange(values, row * width, (row + 1) * width));
      }
    }
  }

  @Test
  void eachAnswerHasItsOwnAndAStreamBringsThemLast() throws IOException {
    JsonNode capture =
        post(
                "/v1/completions",
                "{'prompt': ['%s', 'The cat'], 'n': 2, 'max_tokens': 3, 'capture': {'sites': ['blocks.0.hook_resid_post'], 'positions': 'all'}}"
                    .formatted(QUESTION))
            .ok()
            .get("halter")
            .get("capture");
    assertEquals(4, capture.get("positions").size());
    try (Safetensors file = file(capture)) {
      String name = "/blocks.0.hook_resid_post";
      assertArrayEquals(file.tensor("0" + name).toFloats(), file.tensor("1" + name).toFloats());
      assertEquals(positions(capture, 3).length, file.tensor("3" + name).size(0));
    }
    String chat =
        "{'messages': [{'role': 'user', 'content': 'What is your favourite animal?'}], 'temperature': 0, 'max_tokens': 20, 'plan': 'dogs', 'stream': true, 'capture': {'sites': ['logits'], 'positions': 'last'}}";
    List<JsonNode> events = post("/v1/chat/completions", chat).events();
    StringBuilder text = new StringBuilder();
    for (JsonNode event : events) {
      assertEquals(!event.at("/choices/0/finish_reason").isNull(), event.has("halter"));
      text.append(event.get("choices").get(0).get("delta").path("content").asText());
    }
    assertEquals(DOG, text.toString());
    try (Safetensors file = file(events.getLast().get("halter").get("capture"))) {
      assertTrue(file.tensor("0/logits").hasShape(1, server.model.config().vocabularySize()));
    }
  }

  @Test
  void whatCannotBeReadIsRefused() {
    String[][] wrong = {
      {"{}", "sites"},
      {"{'sites': []}", "at least one"},
      {"{'sites': ['blocks.9.hook_resid_post']}", "no layer 9"},
      {"{'sites': ['logits'], 'position': 'all'}", "unknown key \"capture.position\""},
      {"{'sites': ['logits'], 'positions': 'some'}", "\"all\", \"last\""},
      {"{'sites': ['logits'], 'positions': [1000]}", "position 1000 is not in the prompt"},
      {"{'sites': ['logits'], 'positions': [-1000]}", "position -1000 is not in the prompt"},
      {"{'sites': ['logits'], 'positions': {'prompt_tokens': [3]}}", "selects none of the prompt"},
      {
        "{'sites': ['logits'], 'positions': {'generation_positions': [-1]}}", "generation_positions"
      },
      {"{'sites': ['logits'], 'as': 'file'}", "\"base64\" or \"download\""},
      {"{'sites': ['logits'], 'positions': [" + "0,".repeat(4096) + "0]}", "at most 4,096"},
    };
    for (String[] each : wrong) {
      JsonNode error = post("/v1/completions", body("'capture': " + each[0])).error(400);
      assertTrue(error.get("message").asText().contains(each[1]), each[0] + ": " + error);
      assertEquals("capture", error.get("param").asText(), each[0]);
    }
    String large =
        "{'prompt': '%s', 'max_tokens': 400, 'n': 128, 'capture': {'sites': ['all'], 'positions': {'generation': 'all'}}}"
            .formatted(QUESTION);
    String message = post("/v1/completions", large).error(400).get("message").asText();
    assertTrue(message.matches(".*of [0-9,]{11,} bytes, at most [0-9,]+ can be had.*"), message);
  }

  @Test
  void aDownloadIsForTheKeyThatMadeIt() throws Exception {
    String field = "'capture': {'sites': ['blocks.0.hook_resid_post'], 'as': 'download'}";
    JsonNode capture = capture(field);
    assertFalse(capture.has("base64"));
    String url = capture.get("url").asText();
    assertTrue(capture.get("expires_at").asLong() > System.currentTimeMillis() / 1000);
    server.get(url, "Authorization", "Bearer open").error(404);
    server.get(url).error(401);
    byte[] bytes = bytes(url);
    assertEquals(capture.get("bytes").asInt(), bytes.length);
    JsonNode inline = capture("'capture': {'sites': ['blocks.0.hook_resid_post']}");
    assertArrayEquals(Base64.getDecoder().decode(inline.get("base64").asText()), bytes);
    server.send("DELETE", url, null, "Authorization", "Bearer open").error(404);
    server.send("DELETE", url, null, "Authorization", "Bearer sesame").ok();
    server.get(url, "Authorization", "Bearer sesame").error(404);
  }

  private static byte[] bytes(String url) throws Exception {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(server.url(url)))
            .header("Authorization", "Bearer sesame")
            .build();
    try (HttpClient client = HttpClient.newHttpClient()) {
      HttpResponse<byte[]> reply = client.send(request, BodyHandlers.ofByteArray());
      assertEquals(200, reply.statusCode());
      return reply.body();
    }
  }

  private static Path some(int bytes) throws IOException {
    return Files.write(Files.createTempFile(folder, "kept", ""), new byte[bytes]);
  }

  @Test
  void roomAndFilesAreBounded() throws Exception {
    try (CaptureStore store = new CaptureStore(1000, 100, Duration.ofMinutes(1))) {
      CaptureStore.Taking first = store.take(null, 600, null);
      assertEquals(503, assertThrows(ApiError.class, () -> store.take(null, 600, null)).status());
      assertEquals(400, assertThrows(ApiError.class, () -> store.take(null, 1001, "me")).status());
      first.close();
      store.take(null, 600, null).close();
      Path path = some(60);
      String eldest = store.keep(path, 60, "me").id();
      assertNotNull(store.find(eldest, "me"));
      assertNull(store.find(eldest, "you"));
      String next = store.keep(some(60), 60, "me").id();
      assertNull(store.find(eldest, "me"), "both would be too much");
      assertFalse(Files.exists(path));
      assertNotNull(store.find(next, "me"));
    }
    Path path = some(1);
    try (CaptureStore store = new CaptureStore(1000, 100, Duration.ofMillis(50))) {
      String id = store.keep(path, 1, "me").id();
      while (Files.exists(path)) {
        Thread.sleep(5);
      }
      assertNull(store.find(id, "me"));
    }
  }
}
