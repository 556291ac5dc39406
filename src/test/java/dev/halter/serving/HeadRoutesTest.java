package dev.halter.serving;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.serving.TestServer.DEMO;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** {@code /v1/heads/patch}: what {@code halter heads patch} measures. */
@Timeout(120)
class HeadRoutesTest {
  private static final String PATH = "/v1/heads/patch";

  @TempDir static Path folder;

  private static TestServer server;

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.setup().batch(4).start();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  /** Sums of numbers below ten, and other sums. */
  private static List<String> pairs(int count) {
    String prompt = "<|bos|><|user|> What is %d plus %d?<|end|><|assistant|>";
    return IntStream.range(0, count)
        .mapToObj(
            i ->
                "{\"reference\": \"%s\", \"counterfactual\": \"%s\", \"answer\": \"%d\", \"foil\": \"%d\"}"
                    .formatted(
                        prompt.formatted(1 + i % 4, 2 + i % 3),
                        prompt.formatted(1 + i % 4, 3 + i % 2),
                        3 + i % 4 + i % 3,
                        1 + i % 4 + 3 + i % 2))
        .toList();
  }

  private static String body(List<String> pairs, String fields) {
    return "{\"pairs\": [" + String.join(", ", pairs) + "]" + fields.replace('\'', '"') + "}";
  }

  private static JsonNode patch(List<String> pairs, String... options) throws IOException {
    Path in = Files.write(folder.resolve("pairs.jsonl"), pairs);
    Path out = folder.resolve("effects.json");
    List<Object> all =
        new ArrayList<>(
            List.of(
                "heads",
                "patch",
                "--model",
                DEMO,
                "--device",
                "cpu",
                "--pairs",
                in,
                "--out",
                out,
                "--json"));
    all.addAll(List.of(options));
    halter(all.toArray()).json();
    return CommandLineRun.parse(Files.readString(out));
  }

  @Test
  void effectsAreThoseOfHalterHeadsPatchWhileRequestsGoOn() throws Exception {
    List<String> pairs = pairs(150);
    String alone = server.complete("");
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<String>> texts = new ArrayList<>();
      for (int i = 0; i < 40; i++) {
        texts.add(threads.submit(() -> server.complete("")));
      }
      List<JsonNode> events = server.send("POST", PATH, body(pairs, "")).events();
      for (Future<String> text : texts) {
        assertEquals(alone, text.get());
      }
      assertEquals(patch(pairs), events.getLast());
      int total = 150 * server.model.config().nLayers();
      int before = 0;
      for (JsonNode event : events.subList(0, events.size() - 1)) {
        assertEquals(total, event.get("progress").get("total").asInt());
        int done = event.get("progress").get("done").asInt();
        assertTrue(done >= before);
        before = done;
      }
      assertEquals(total, before);
    }
  }

  @Test
  void itTakesTheVariantAndProbabilitiesAndAnswersAtOnce() throws IOException {
    List<String> pairs = pairs(5);
    JsonNode frozen =
        server.send("POST", PATH, body(pairs, ", 'variant': 'frozen', 'stream': false")).ok();
    assertEquals(patch(pairs, "--variant", "frozen"), frozen);
    JsonNode probability =
        server.send("POST", PATH, body(pairs, ", 'probability': true, 'stream': false")).ok();
    assertEquals(patch(pairs, "--probability"), probability);
  }

  @Test
  void aPairThatIsNoneIsNamed() {
    List<String> pairs = new ArrayList<>(pairs(2));
    String[][] wrong = {
      {"{\"reference\": \"a\", \"counterfactual\": \"b\"}", "pair 3: ", "answer"},
      {
        "{\"reference\": \"a\", \"counterfactual\": \"b\", \"answers\": \"c\"}",
        "pair 3: ",
        "answers"
      },
      {
        "{\"reference\": \"a\", \"counterfactual\": \"b\", \"answer\": \"two words\"}",
        "pair 3: ",
        "no single token"
      },
      {
        "{\"reference_tokens\": [99999], \"counterfactual\": \"b\", \"answer\": \"c\"}",
        "pair 3: ",
        "99999"
      },
      {
        "{\"reference_tokens\": [], \"counterfactual\": \"b\", \"answer\": \"c\"}",
        "pair 3: ",
        "0 tokens"
      },
      {"7", "pairs", "a list of objects"},
    };
    for (String[] each : wrong) {
      pairs.add(each[0]);
      JsonNode error = server.send("POST", PATH, body(pairs, "")).error(400);
      String message = error.get("message").asText();
      assertTrue(message.contains(each[1]) && message.contains(each[2]), each[0] + ": " + message);
      pairs.removeLast();
    }
    server.post(PATH, "{'pairs': []}").error(400);
    server.send("POST", PATH, body(pairs, ", 'receivers': ['1.0.q']")).error(400);
    server.send("POST", PATH, body(pairs, ", 'variant': 'exact'")).error(400);
    String many = IntStream.range(0, 1001).mapToObj(i -> "{}").collect(Collectors.joining(","));
    String message =
        server.post(PATH, "{'pairs': [" + many + "]}").error(400).get("message").asText();
    assertTrue(message.contains("1 to 1,000") && message.contains("1,001"), message);
  }

  @Test
  void aSweepThatNobodyWaitsForEnds() throws Exception {
    byte[] body = body(pairs(1000), "").getBytes(StandardCharsets.UTF_8);
    double before = patched();
    for (int i = 0; i < 3; i++) {
      try (Socket socket =
          new Socket(InetAddress.getLoopbackAddress(), server.address().getPort())) {
        String head =
            "POST " + PATH + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + body.length + "\r\n\r\n";
        socket.getOutputStream().write(head.getBytes(StandardCharsets.US_ASCII));
        socket.getOutputStream().write(body);
        socket.getOutputStream().flush();
        new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))
            .readLine();
      }
    }
    // It waits for those before it.
    String last = body(pairs(5), ", 'stream': false");
    assertEquals(5, server.send("POST", PATH, last).ok().get("pairs").asInt());
    double patched = patched() - before;
    assertTrue(patched < 3000, patched + " pairs, three thousand of them for nobody");
  }

  private static double patched() {
    return ErrorsTest.value(server.get("/metrics").body(), "halter_pairs_patched_total");
  }
}
