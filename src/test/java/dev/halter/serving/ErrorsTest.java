package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is refused, by which status, and whose fault it is said to be. */
class ErrorsTest {
  private static TestServer server;

  @TempDir Path folder;

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.start();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '"',
      value = {
        "temperature | -1",
        "temperature | 'warm'",
        "temperature | 1e9",
        "top_p | 0",
        "top_p | 1.5",
        "top_k | -2",
        "top_k | 1.5",
        "min_p | 2",
        "n | 0",
        "n | 129",
        "best_of | 2",
        "max_tokens | -1",
        "max_tokens | 'many'",
        "min_tokens | 17",
        "stop | 7",
        "stop | ['']",
        "stop | [1]",
        "seed | 1.5",
        "seed | 'x'",
        "logprobs | 1001",
        "logprobs | true",
        "prompt_logprobs | -1",
        "echo | 1",
        "stream | 'yes'",
        "stream_options | {}",
        "logit_bias | [1]",
        "logit_bias | {'a': 1}",
        "logit_bias | {'5': 101}",
        "logit_bias | {'999999': 1}",
        "logit_bias | {'5': 'x'}",
        "allowed_token_ids | []",
        "allowed_token_ids | [999999]",
        "allowed_token_ids | 5",
        "stop_token_ids | [-1]",
        "stop_token_ids | ['a']",
        "logprob_token_ids | [2340]",
        "repetition_penalty | 0",
        "presence_penalty | 3",
        "frequency_penalty | -2.5",
        "suffix | 'end'",
        "response_format | {'type': 'json_object'}",
        "model | 5",
        "plan | 5",
        "add_special_tokens | 'no'",
        "request_id | 5",
        "request_id | 'a b'",
        "cache_salt | ''",
        "cache_salt | 5",
        "priority | 1",
        "steer_vector_request | {'id': 1}",
      })
  void aFieldOfAWrongTypeOrRangeIsNamed(String field, String value) {
    String body = "{'prompt': 'a', 'max_tokens': 16, '%s': %s}".formatted(field, value);
    if (field.equals("max_tokens")) {
      body = "{'prompt': 'a', 'max_tokens': %s}".formatted(value);
    }
    JsonNode error = server.post("/v1/completions", body).error(400);
    assertEquals("BadRequestError", error.get("type").asText());
    assertEquals(field, error.get("param").asText(), error.toString());
    assertTrue(error.get("message").asText().contains(field), error.toString());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "5",
        "null",
        "[]",
        "{}",
        "[1, 'a']",
        "['a', 5]",
        "[[1], [2.5]]",
        "[[-1]]",
        "[99999]",
        "[[]]",
        "['\\ud800']",
        "[12345678901234567890]",
      })
  void whatIsNoPromptIsNamed(String prompt) {
    JsonNode error = server.post("/v1/completions", "{'prompt': " + prompt + "}").error(400);
    assertEquals("prompt", error.get("param").asText(), error.toString());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "[]",
        "{",
        "{'prompt': 'a',}",
        "{'prompt': 'a'} x",
        "{'prompt': 'a', 'prompt': 'b'}",
        "{'prompt': NaN}",
        "\u0000",
        "{'a': [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]}",
      })
  void whatIsNoJsonIsRefused(String body) {
    for (String path : List.of("/v1/completions", "/v1/chat/completions", "/tokenize")) {
      server.post(path, body).error(400);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '"',
      value = {
        "messages | {}",
        "messages | {'messages': []}",
        "messages | {'messages': 'hi'}",
        "messages | {'messages': [{'role': 'user'}]}",
        "messages | {'messages': [{'content': 'hi'}]}",
        "messages | {'messages': [{'role': 'user', 'content': [{'type': 'image_url'}]}]}",
        "top_logprobs | {'messages': [{'role': 'user', 'content': 'hi'}], 'top_logprobs': 3}",
        "tools | {'messages': [{'role': 'user', 'content': 'hi'}], 'tools': [{'type': 'function'}]}",
        "max_completion_tokens | {'messages': [{'role': 'user', 'content': 'hi'}], 'max_completion_tokens': -2}",
        "chat_template_kwargs | {'messages': [{'role': 'user', 'content': 'hi'}], 'chat_template_kwargs': 3}",
      })
  void aChatThatIsNoneIsRefused(String field, String body) {
    JsonNode error = server.post("/v1/chat/completions", body).error(400);
    assertEquals(field, error.get("param").asText(), error.toString());
  }

  @Test
  void whatIsTooLongIsToldWithBothLengths() {
    int most = server.model.engine().maxTokens();
    String message =
        server
            .post("/v1/completions", "{'prompt': [5, 6, 7], 'max_tokens': " + most + "}")
            .error(400)
            .get("message")
            .asText();
    assertEquals(
        "the prompt has 3 tokens and 1,024 are to be generated, at most 1,024 fit together",
        message);
    String ids = "5, ".repeat(most) + "5";
    message =
        server
            .post("/v1/completions", "{'prompt': [" + ids + "]}")
            .error(400)
            .get("message")
            .asText();
    assertEquals("the prompt has 1,025 tokens, at most 1,024 fit", message);
    TestServer.Reply large =
        server.post("/v1/completions", "{'prompt': '" + "a".repeat(Exchange.MOST_BYTES) + "'}");
    assertTrue(
        large.error(413).get("message").asText().contains("at most 33,554,432"), large.body());
    // The longest that fit.
    String fits = "5, ".repeat(most - 3) + "5";
    assertEquals(
        "length",
        server
            .post("/v1/completions", "{'prompt': [" + fits + "], 'ignore_eos': true}")
            .ok()
            .get("choices")
            .get(0)
            .get("finish_reason")
            .asText());
  }

  @Test
  void unknownFieldsAreLoggedOnceAndDoNoHarm() {
    assertEquals(CAT, server.complete(", 'user': 'x', 'line\\nbreak': 1, 'user_two': {}"));
    assertEquals(CAT, server.complete(", 'user_two': {}"));
    List<String> told = server.log.stream().filter(line -> line.contains("user_two")).toList();
    assertEquals(
        List.of("/v1/completions: the field \"user_two\" means nothing here and is left out"),
        told);
    server.log.forEach(line -> assertEquals(1, line.lines().count(), line));
  }

  @Test
  void pathsAndMethodsAreKnownOrNot() {
    assertEquals("NotFoundError", server.get("/v2/completions").error(404).get("type").asText());
    server.get("/v1/completions/").error(404);
    server.get("/..%2f..%2fetc/passwd").error(404);
    TestServer.Reply wrong = server.get("/v1/completions");
    wrong.error(405);
    assertEquals("POST", wrong.response().headers().firstValue("Allow").orElse(""));
    assertEquals("ok", server.get("/health").ok().get("status").asText());
    assertEquals("test", server.get("/version").ok().get("version").asText());
    assertEquals(0, server.get("/load").ok().get("server_load").asInt());
    assertEquals(200, server.send("HEAD", "/health", null).status());
  }

  @Test
  void keysAreAskedForWhereThereAreSome() throws IOException {
    Path keys = Files.writeString(folder.resolve("keys"), "# of the team\n  sesame  \n\nother\n");
    try (TestServer guarded = setup().keys(keys).start()) {
      String body = "{'prompt': 'a', 'max_tokens': 1}";
      for (String path : List.of("/v1/completions", "/v1/chat/completions", "/tokenize")) {
        guarded.post(path, body).error(401);
      }
      guarded.get("/v1/models").error(401);
      for (String shown : List.of("Bearer guess", "sesame", "Bearer", "Bearer # of the team", "")) {
        guarded.post("/v1/completions", body, "Authorization", shown).error(401);
      }
      for (String shown : List.of("Bearer sesame", "bearer other")) {
        guarded.post("/v1/completions", body, "Authorization", shown).ok();
      }
      guarded.get("/health").ok();
      assertEquals(200, guarded.get("/metrics").status());
    }
    Path empty = Files.writeString(folder.resolve("empty"), "# none\n");
    Assertions.assertThrows(BadFileException.class, () -> setup().keys(empty).start().close());
  }

  @Test
  void aFullQueueSaysWhenToComeBack() throws Exception {
    String body = "{'prompt': 'a', 'temperature': 0, 'max_tokens': 900, 'ignore_eos': true}";
    try (TestServer small = setup().batch(1).queue(2).start();
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<TestServer.Reply>> coming = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        coming.add(threads.submit(() -> small.post("/v1/completions", body)));
      }
      int served = 0;
      int refused = 0;
      for (Future<TestServer.Reply> each : coming) {
        TestServer.Reply reply = each.get();
        if (reply.status() == 200) {
          served++;
          continue;
        }
        JsonNode error = reply.error(503);
        assertEquals("ServiceUnavailableError", error.get("type").asText());
        assertEquals("1", reply.response().headers().firstValue("Retry-After").orElse(""));
        refused++;
      }
      assertTrue(served >= 3 && refused >= 1, served + " served, " + refused + " refused");
      String metrics = small.get("/metrics").body();
      assertTrue(
          metrics.contains("vllm:admission_rejections_total{reason=\"queue_full\","), metrics);
      assertFalse(metrics.contains("reason=\"queue_full\",model_name=\"demo\",engine=\"0\"} 0"));
      String many = "{'prompt': ['a', 'b', 'c'], 'max_tokens': 1}";
      String message = small.post("/v1/completions", many).error(400).get("message").asText();
      assertEquals(
          "3 answers are asked for at once, at most 2 can be: send several requests", message);
    }
  }

  @Test
  void metricsAreInPrometheusFormat() {
    server.complete("");
    server.complete(", 'plan': 'dogs'");
    TestServer.Reply reply = server.get("/metrics");
    assertEquals(
        "text/plain; version=0.0.4; charset=utf-8",
        reply.response().headers().firstValue("Content-Type").orElse(""));
    for (String line : reply.body().lines().toList()) {
      assertTrue(
          line.matches("# (HELP|TYPE) [a-z0-9_:]+ .+")
              || line.matches("(vllm:|halter_)[a-z0-9_]+\\{([a-z_]+=\"[^\"]*\",?)+\\} [-0-9.eE+]+"),
          line);
    }
    for (String name :
        List.of(
            "vllm:num_requests_running",
            "vllm:kv_cache_usage_perc",
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:time_to_first_token_seconds_bucket",
            "vllm:e2e_request_latency_seconds_count",
            "halter_prefix_cache_shared_layers_total",
            "halter_requests_steered_total")) {
      assertTrue(reply.body().lines().anyMatch(line -> line.startsWith(name + "{")), name);
    }
    assertTrue(value(reply.body(), "halter_requests_steered_total") >= 1);
    assertTrue(value(reply.body(), "vllm:generation_tokens_total") > 20);
    assertEquals(0, value(reply.body(), "vllm:num_requests_running"));
  }

  static double value(String metrics, String name) {
    return metrics
        .lines()
        .filter(line -> line.startsWith(name + "{"))
        .mapToDouble(line -> Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1)))
        .sum();
  }

  @Test
  void aBodyThatIsNoUtf8IsRefused() {
    server
        .send(
            "POST",
            "/v1/completions",
            new String(new byte[] {'{', (byte) 0xff, '}'}, StandardCharsets.ISO_8859_1))
        .error(400);
  }
}
