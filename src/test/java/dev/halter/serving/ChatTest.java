package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.DOG;
import static dev.halter.serving.TestServer.QUESTION;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Chats, and both interfaces as streams. */
class ChatTest {
  private static final String PATH = "/v1/chat/completions";
  private static final String ASK =
      "{'model': 'demo', 'temperature': 0, 'messages': [{'role': 'user', 'content': 'What is your"
          + " favourite animal?'}]";

  private static TestServer server;

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.start();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static JsonNode choice(String fields) {
    return server.post(PATH, ASK + fields + "}").ok().get("choices").get(0);
  }

  @Test
  void anAnswerHasOpenAiShape() {
    JsonNode answer = server.post(PATH, ASK + "}").ok();
    assertTrue(answer.get("id").asText().startsWith("chatcmpl-"));
    assertEquals("chat.completion", answer.get("object").asText());
    JsonNode message = answer.get("choices").get(0).get("message");
    assertEquals(List.of("role", "content", "refusal"), CommandLineRun.keys(message));
    assertEquals("assistant", message.get("role").asText());
    assertEquals(CAT, message.get("content").asText());
    assertEquals("stop", answer.get("choices").get(0).get("finish_reason").asText());
    int prompt = server.model.tokenizer().encode(QUESTION, false).length;
    assertEquals(prompt, answer.get("usage").get("prompt_tokens").asInt());
  }

  @Test
  void logProbabilitiesComeWithTheirBytes() {
    JsonNode content =
        choice(", 'max_completion_tokens': 3, 'logprobs': true, 'top_logprobs': 2")
            .get("logprobs")
            .get("content");
    assertEquals(3, content.size());
    StringBuilder text = new StringBuilder();
    for (JsonNode token : content) {
      assertEquals(
          List.of("token", "logprob", "bytes", "top_logprobs"), CommandLineRun.keys(token));
      assertEquals(2, token.get("top_logprobs").size());
      assertEquals(
          token.get("logprob").asDouble(),
          token.get("top_logprobs").get(0).get("logprob").asDouble(),
          0.0);
      byte[] bytes = new byte[token.get("bytes").size()];
      for (int i = 0; i < bytes.length; i++) {
        bytes[i] = (byte) token.get("bytes").get(i).asInt();
      }
      text.append(new String(bytes, StandardCharsets.UTF_8));
    }
    assertEquals(CAT.substring(0, text.length()), text.toString());
  }

  @Test
  void theNewerLimitCounts() {
    assertEquals(
        " cat",
        choice(", 'max_completion_tokens': 1, 'max_tokens': 5")
            .get("message")
            .get("content")
            .asText());
    assertEquals(" cat. I", choice(", 'max_tokens': 3").get("message").get("content").asText());
  }

  @Test
  void aFinalMessageIsGoneOnWith() {
    String open =
        "{'temperature': 0, 'continue_final_message': true, 'messages': [{'role': 'user',"
            + " 'content': 'What is your favourite animal?'}, {'role': 'assistant', 'content': '%s'}]}";
    JsonNode answer = server.post(PATH, open.formatted("dog. I like the")).ok();
    assertEquals(
        " dog because it guards the house.",
        answer.get("choices").get(0).get("message").get("content").asText());
    server
        .post(
            PATH,
            open.replace(
                "'continue_final_message': true",
                "'add_generation_prompt': true, 'continue_final_message': true"))
        .error(400);
  }

  @Test
  void aTemplateGetsItsVariablesAndItsWordsComeBack() {
    assertEquals(
        CAT,
        choice(", 'chat_template_kwargs': {'enable_thinking': false}")
            .get("message")
            .get("content")
            .asText());
    JsonNode error =
        server.post(PATH, "{'messages': [{'role': 'pirate', 'content': 'Arr'}]}").error(400);
    assertTrue(error.get("message").asText().contains("Unknown role pirate"), error.toString());
  }

  @Test
  void aStreamSaysWhatTheWholeAnswerSays() {
    for (String fields :
        List.of("", ", 'stop': 'e the ca'", ", 'n': 3", ", 'logprobs': true, 'top_logprobs': 1")) {
      JsonNode whole = server.post(PATH, ASK + ", 'max_tokens': 20" + fields + "}").ok();
      List<JsonNode> events =
          server.post(PATH, ASK + ", 'max_tokens': 20, 'stream': true" + fields + "}").events();
      int choices = whole.get("choices").size();
      StringBuilder[] texts = new StringBuilder[choices];
      String[] finish = new String[choices];
      List<List<JsonNode>> tokens = new ArrayList<>();
      for (int i = 0; i < choices; i++) {
        texts[i] = new StringBuilder();
        tokens.add(new ArrayList<>());
      }
      for (JsonNode event : events) {
        assertEquals("chat.completion.chunk", event.get("object").asText());
        assertEquals(events.getFirst().get("id"), event.get("id"));
        JsonNode choice = event.get("choices").get(0);
        int index = choice.get("index").asInt();
        if (texts[index].isEmpty() && choice.get("delta").has("role")) {
          assertEquals("assistant", choice.get("delta").get("role").asText());
        }
        texts[index].append(choice.get("delta").path("content").asText());
        if (!choice.get("logprobs").isNull()) {
          choice.get("logprobs").get("content").forEach(tokens.get(index)::add);
        }
        if (!choice.get("finish_reason").isNull()) {
          finish[index] = choice.get("finish_reason").asText();
        }
      }
      for (int i = 0; i < choices; i++) {
        JsonNode choice = whole.get("choices").get(i);
        assertEquals(choice.get("message").get("content").asText(), texts[i].toString(), fields);
        assertEquals(choice.get("finish_reason").asText(), finish[i], fields);
        if (!choice.get("logprobs").isNull()) {
          List<JsonNode> expected = new ArrayList<>();
          choice.get("logprobs").get("content").forEach(expected::add);
          assertEquals(expected, tokens.get(i));
        }
      }
      long reports = events.stream().filter(event -> event.has("halter")).count();
      assertEquals(1, reports, "one event tells of all");
      assertTrue(events.getLast().has("halter"), "the last one");
    }
  }

  @Test
  void aStreamEndsWithItsUsageIfThatIsAskedFor() {
    List<JsonNode> events =
        server
            .post(
                PATH,
                ASK
                    + ", 'plan': 'dogs', 'stream': true, 'stream_options': {'include_usage': true}}")
            .events();
    JsonNode last = events.getLast();
    assertEquals(0, last.get("choices").size());
    JsonNode usage = server.post(PATH, ASK + ", 'plan': 'dogs'}").ok().get("usage");
    assertEquals(usage, last.get("usage"));
    assertEquals("dogs", last.get("halter").get("plan").asText());
    assertTrue(
        last.get("halter").get("report").get("interventions").get(0).get("tokens").asInt() > 0);
    server.post(PATH, ASK + ", 'stream_options': {'include_usage': true}}").error(400);
  }

  @Test
  void completionsStreamToo() {
    String body = "{'prompt': '" + QUESTION + "', 'temperature': 0, 'max_tokens': 20, ";
    List<JsonNode> events =
        server
            .post("/v1/completions", body + "'echo': true, 'stream': true, 'plan': 'dogs'}")
            .events();
    StringBuilder text = new StringBuilder();
    events.forEach(event -> text.append(event.get("choices").get(0).get("text").asText()));
    assertEquals(QUESTION + DOG, text.toString());
    assertTrue(events.size() > 5, "it comes in pieces");
    server
        .post("/v1/completions", body + "'echo': true, 'logprobs': 1, 'stream': true}")
        .error(400);
  }

  @Test
  void aStreamThatCannotBeServedIsAnErrorOfItsOwn() {
    String plan =
        "{'interventions': [{'op': 'head_scale', 'site': 'blocks.0.attn.hook_z', 'heads': [0],"
            + " 'scale': 0, 'when': {'prompt_tokens': [2339]}}]}";
    JsonNode error = server.post(PATH, ASK + ", 'stream': true, 'plan': " + plan + "}").error(400);
    assertTrue(error.get("message").asText().contains("select"), error.toString());
  }
}
