package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.QUESTION;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Clients that go before their answer is there, and servers that end before it is. */
@Timeout(120)
class GoneClientsTest {
  private static final String LONG = // far longer than a test waits
      "{'prompt': 'a', 'temperature': 0, 'max_tokens': 1000, 'n': 16, 'ignore_eos': true%s}";

  /** Sends a request and goes once {@code lines} of its answer are there. */
  private static void ask(TestServer server, String body, int lines) throws IOException {
    byte[] bytes = body.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), server.address().getPort())) {
      String head =
          "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: "
              + bytes.length
              + "\r\n\r\n";
      socket.getOutputStream().write(head.getBytes(StandardCharsets.US_ASCII));
      socket.getOutputStream().write(bytes);
      socket.getOutputStream().flush();
      BufferedReader in =
          new BufferedReader(
              new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
      for (int i = 0; i < lines; i++) {
        in.readLine();
      }
      awaitRunning(server, lines == 0 ? 1 : 0); // so that there is something to be cancelled
    }
  }

  private static void awaitRunning(TestServer server, int least) {
    while (ErrorsTest.value(server.get("/metrics").body(), "vllm:num_requests_running") < least) {
      Thread.onSpinWait();
    }
  }

  private static void awaitIdle(TestServer server) throws InterruptedException {
    while (true) {
      String metrics = server.get("/metrics").body();
      double busy =
          ErrorsTest.value(metrics, "vllm:num_requests_running")
              + ErrorsTest.value(metrics, "vllm:num_requests_waiting")
              + ErrorsTest.value(metrics, "vllm:kv_cache_usage_perc")
              + server.get("/load").ok().get("server_load").asInt();
      if (busy == 0) {
        return;
      }
      Thread.sleep(20);
    }
  }

  @Test
  void whatNobodyWaitsForIsCancelledAndItsPagesAreFree() throws Exception {
    try (TestServer server = TestServer.start()) {
      for (String stream : new String[] {", 'stream': true", ""}) {
        ask(server, LONG.formatted(stream), stream.isEmpty() ? 0 : 12);
        awaitIdle(server);
        String metrics = server.get("/metrics").body();
        double tokens = ErrorsTest.value(metrics, "vllm:generation_tokens_total");
        assertTrue(tokens < (stream.isEmpty() ? 32_000 : 16_000), tokens + " tokens were made");
      }
      assertEquals(CAT, server.complete(""), "and it serves on");
    }
  }

  @Test
  void aStreamThatIsLeftEndsAtOnceAndCostsFewTokens() throws Exception {
    try (TestServer server = setup().batch(2).start()) {
      String body = "{'prompt': 'a', 'max_tokens': 1000, 'ignore_eos': true, 'stream': true}";
      for (int i = 0; i < 20; i++) {
        ask(server, body, 8);
      }
      awaitIdle(server);
      double tokens =
          ErrorsTest.value(server.get("/metrics").body(), "vllm:generation_tokens_total");
      assertTrue(tokens < 20 * 1000, tokens + " tokens for 20 clients that went after the first");
    }
  }

  @Test
  void aServerThatEndsAnswersWhatItHasTakenAndRefusesTheRest() throws Exception {
    try (TestServer server = TestServer.start();
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      String body =
          "{'prompt': '" + QUESTION + "', 'temperature': 0, 'max_tokens': 900, 'ignore_eos': true}";
      Future<TestServer.Reply> taken = threads.submit(() -> server.post("/v1/completions", body));
      awaitRunning(server, 1);
      Future<?> end = threads.submit(() -> server.server.close(Duration.ofMinutes(1)));
      while (server.get("/health").status() == 200) {
        Thread.onSpinWait();
      }
      TestServer.Reply late = server.post("/v1/completions", body);
      assertTrue(late.error(503).get("message").asText().contains("about to end"), late.body());
      JsonNode choice = taken.get().ok().get("choices").get(0);
      assertEquals("length", choice.get("finish_reason").asText());
      assertTrue(choice.get("text").asText().startsWith(CAT));
      end.get();
    }
  }

  @Test
  void whatLastsTooLongThenEndsWithWhatItHas() throws Exception {
    try (TestServer server = TestServer.start();
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      Future<TestServer.Reply> taken =
          threads.submit(() -> server.post("/v1/completions", LONG.formatted("")));
      awaitRunning(server, 16);
      server.server.close(Duration.ofMillis(50));
      for (JsonNode choice : taken.get().ok().get("choices")) {
        assertEquals("abort", choice.get("finish_reason").asText());
      }
    }
  }
}
