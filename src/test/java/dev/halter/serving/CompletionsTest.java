package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.QUESTION;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CompletionsTest {
  private static final String PATH = "/v1/completions";

  private static TestServer server;

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.start();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static JsonNode complete(String fields) {
    return server.post(PATH, "{'model': 'demo', 'temperature': 0, " + fields + "}").ok();
  }

  private static JsonNode choice(String fields) {
    return complete(fields).get("choices").get(0);
  }

  private static String prompt() {
    return "'prompt': '" + QUESTION + "'";
  }

  private static String ids(String text) {
    return Arrays.toString(server.model.tokenizer().encode(text, false));
  }

  @Test
  void anAnswerHasOpenAiShape() {
    JsonNode answer = complete(prompt() + ", 'max_tokens': 20");
    assertEquals(
        List.of("id", "object", "created", "model", "choices", "usage", "halter"),
        CommandLineRun.keys(answer));
    assertTrue(answer.get("id").asText().startsWith("cmpl-"));
    assertEquals("text_completion", answer.get("object").asText());
    assertEquals("demo", answer.get("model").asText());
    JsonNode choice = answer.get("choices").get(0);
    assertEquals(CAT, choice.get("text").asText());
    assertEquals("stop", choice.get("finish_reason").asText());
    assertTrue(choice.get("logprobs").isNull() && choice.get("stop_reason").isNull());
    int prompt = server.model.tokenizer().encode(QUESTION, false).length;
    assertEquals(prompt, answer.get("usage").get("prompt_tokens").asInt());
    int generated = server.model.tokenizer().encode(CAT, false).length + 1; // and the end
    assertEquals(generated, answer.get("usage").get("completion_tokens").asInt());
    assertEquals(prompt + generated, answer.get("usage").get("total_tokens").asInt());
    assertTrue(answer.get("halter").get("plan").isNull());
    assertEquals(0, answer.get("halter").get("report").get("interventions").size());
  }

  @Test
  void withoutALimitSixteenTokensAreMade() {
    JsonNode answer = complete(prompt() + ", 'ignore_eos': true");
    assertEquals(16, answer.get("usage").get("completion_tokens").asInt());
    assertEquals("length", answer.get("choices").get(0).get("finish_reason").asText());
  }

  @Test
  void promptsAreTextsOrIdsOrListsOfEither() {
    String other = "<|bos|><|user|> What is 3 plus 4?<|end|><|assistant|>";
    String[] ways = {
      "['%s', '%s']".formatted(QUESTION, other),
      "[%s, %s]".formatted(ids(QUESTION), ids(other)),
      "['%s', %s]".formatted(QUESTION, ids(other))
    };
    for (String prompts : ways) {
      JsonNode choices =
          complete("'add_special_tokens': false, 'max_tokens': 20, 'prompt': " + prompts)
              .get("choices");
      assertEquals(2, choices.size());
      assertEquals(CAT, choices.get(0).get("text").asText(), prompts);
      assertEquals(" 7.", choices.get(1).get("text").asText(), prompts);
      assertEquals(1, choices.get(1).get("index").asInt());
    }
    assertEquals(CAT, choice("'max_tokens': 20, 'prompt': " + ids(QUESTION)).get("text").asText());
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 5})
  void anEchoHasAnEntryForEachTokenAndTheGreedyOnesAreTheLargestToTheBit(int top) {
    int[] prompt = server.model.tokenizer().encode(QUESTION, false);
    String raw =
        server
            .post(
                PATH,
                "{'prompt': [%s], 'temperature': 0, 'max_tokens': 1, 'echo': true, 'seed': 1234, 'logprobs': %d}"
                    .formatted(ids(QUESTION), top))
            .body();
    JsonNode choice = CommandLineRun.parse(raw).get("choices").get(0);
    JsonNode logprobs = choice.get("logprobs");
    for (String key : List.of("tokens", "token_logprobs", "top_logprobs", "text_offset")) {
      assertEquals(prompt.length + 1, logprobs.get(key).size(), key);
    }
    assertTrue(logprobs.get("token_logprobs").get(0).isNull());
    assertTrue(logprobs.get("top_logprobs").get(0).isNull());
    int greedy = 0;
    for (int i = 1; i <= prompt.length; i++) {
      String token = logprobs.get("tokens").get(i).asText();
      double own = logprobs.get("token_logprobs").get(i).asDouble();
      JsonNode candidates = logprobs.get("top_logprobs").get(i);
      assertEquals(own, candidates.get(token).asDouble(), 0.0);
      double most = Double.NEGATIVE_INFINITY;
      for (Iterator<JsonNode> each = candidates.elements(); each.hasNext(); ) {
        most = Math.max(most, each.next().asDouble());
      }
      assertTrue(candidates.size() >= Math.max(1, top) && candidates.size() <= top + 1);
      greedy += own == most ? 1 : 0;
      // The digits are the same, since the floats are.
      String written = logprobs.get("token_logprobs").get(i).asText();
      assertEquals(written, candidates.get(token).asText());
    }
    assertEquals(
        logprobs.get("token_logprobs").get(prompt.length).asDouble(),
        logprobs.get("top_logprobs").get(prompt.length).elements().next().asDouble(),
        0.0,
        "the generated token is the likeliest");
    assertTrue(top == 0 || greedy >= 1 && greedy < prompt.length, greedy + " of " + prompt.length);
    assertTrue(choice.get("text").asText().endsWith(" cat"));
    assertEquals(0, logprobs.get("text_offset").get(0).asInt());
  }

  @Test
  void theOneTokenOfAnEchoIsThereEvenIfItEndsTheText() {
    int[] tokens = server.model.tokenizer().encode(QUESTION + CAT, false);
    JsonNode choice =
        choice(
            "'prompt': [%s], 'max_tokens': 1, 'echo': true, 'logprobs': 1"
                .formatted(Arrays.toString(tokens)));
    JsonNode names = choice.get("logprobs").get("tokens");
    assertEquals(tokens.length + 1, names.size());
    assertEquals("<|end|>", names.get(tokens.length).asText());
    assertEquals("stop", choice.get("finish_reason").asText());
  }

  @Test
  void anEchoOfNoTokensIsThePromptAlone() {
    JsonNode choice = choice(prompt() + ", 'max_tokens': 0, 'echo': true, 'logprobs': 2");
    assertEquals(QUESTION, choice.get("text").asText());
    int prompt = server.model.tokenizer().encode(QUESTION, false).length;
    assertEquals(prompt, choice.get("logprobs").get("tokens").size());
    assertEquals("length", choice.get("finish_reason").asText());
  }

  @Test
  void severalAnswersToAPromptDiffer() {
    String sampled =
        "{'prompt': '%s', 'temperature': 1.5, 'max_tokens': 12, 'ignore_eos': true, 'seed': 5"
            .formatted(QUESTION);
    JsonNode three = server.post(PATH, sampled + ", 'n': 3}").ok().get("choices");
    assertEquals(3, three.size());
    List<String> texts = new ArrayList<>();
    three.forEach(choice -> texts.add(choice.get("text").asText()));
    assertEquals(3, texts.stream().distinct().count(), texts.toString());
    JsonNode one = server.post(PATH, sampled + "}").ok().get("choices");
    assertEquals(texts.getFirst(), one.get(0).get("text").asText(), "the first is as one alone");
    String again = server.post(PATH, sampled + ", 'n': 3}").ok().get("choices").toString();
    assertEquals(three.toString(), again);
    String other = sampled.replace("'seed': 5", "'seed': 6");
    JsonNode seeded = server.post(PATH, other + "}").ok().get("choices");
    assertNotEquals(texts.getFirst(), seeded.get(0).get("text").asText());
  }

  @Test
  void aTextEndsAnAnswerAlsoWhereItSpansTokens() {
    for (String stop : List.of("e the ca", "like", "mice.", " cat")) {
      JsonNode choice = choice(prompt() + ", 'max_tokens': 20, 'stop': ['zebra', '" + stop + "']");
      assertEquals(CAT.substring(0, CAT.indexOf(stop)), choice.get("text").asText(), stop);
      assertEquals("stop", choice.get("finish_reason").asText());
      assertEquals(stop, choice.get("stop_reason").asText());
    }
    JsonNode kept =
        choice(
            prompt() + ", 'max_tokens': 20, 'stop': 'e the', 'include_stop_str_in_output': true");
    assertEquals(" cat. I like the", kept.get("text").asText());
    // What only begins like a stop is no stop.
    assertEquals(
        CAT, choice(prompt() + ", 'max_tokens': 20, 'stop': 'mice. Not'").get("text").asText());
    // Before so many tokens nothing ends it.
    JsonNode late = choice(prompt() + ", 'max_tokens': 20, 'stop': ' cat', 'min_tokens': 3");
    assertEquals(" cat. I like the", late.get("text").asText());
  }

  @Test
  void choicesOfTokensAreBiasedAndBounded() {
    int dog = server.model.tokenizer().encode(" dog", false)[0];
    int cat = server.model.tokenizer().encode(" cat", false)[0];
    int end = server.model.tokenizer().idOf("<|end|>").getAsInt();
    String one = prompt() + ", 'max_tokens': 1, ";
    assertEquals(" cat", choice(prompt() + ", 'max_tokens': 1").get("text").asText());
    assertEquals(" dog", choice(one + "'logit_bias': {'" + dog + "': 100}").get("text").asText());
    assertNotEquals(
        " cat", choice(one + "'logit_bias': {'" + cat + "': -100}").get("text").asText());
    assertEquals(" dog", choice(one + "'allowed_token_ids': [" + dog + "]").get("text").asText());
    JsonNode stopped = choice(prompt() + ", 'max_tokens': 9, 'stop_token_ids': [" + cat + "]");
    assertEquals("", stopped.get("text").asText());
    assertEquals(cat, stopped.get("stop_reason").asInt());
    JsonNode on =
        choice(prompt() + ", 'max_tokens': 30, 'ignore_eos': true, 'return_token_ids': true");
    assertEquals(30, on.get("token_ids").size());
    assertEquals("length", on.get("finish_reason").asText());
    assertEquals(
        server.model.tokenizer().encode(QUESTION, false).length, on.get("prompt_token_ids").size());
    JsonNode least =
        choice(prompt() + ", 'max_tokens': 30, 'min_tokens': 25, 'return_token_ids': true");
    assertTrue(least.get("token_ids").size() >= 25);
    for (int i = 0; i < 25; i++) {
      assertNotEquals(end, least.get("token_ids").get(i).asInt());
    }
    String repeating = ", 'max_tokens': 20, 'repetition_penalty': 50";
    assertNotEquals(CAT, choice(prompt() + repeating).get("text").asText());
    String narrow = "{'prompt': '" + QUESTION + "', 'temperature': 2, 'max_tokens': 9, 'seed': 3, ";
    for (String cut : List.of("'top_k': 1", "'min_p': 1", "'top_p': 0.001")) {
      JsonNode answer = server.post(PATH, narrow + cut + "}").ok();
      assertTrue(CAT.startsWith(answer.get("choices").get(0).get("text").asText()), cut);
    }
  }

  @Test
  void logProbabilitiesOfThePromptAndOfNamedTokensAreTold() {
    int dog = server.model.tokenizer().encode(" dog", false)[0];
    JsonNode choice =
        choice(
            prompt()
                + ", 'max_tokens': 1, 'logprobs': 1, 'prompt_logprobs': 2, 'logprob_token_ids': ["
                + dog
                + "]");
    JsonNode top = choice.get("logprobs").get("top_logprobs").get(0);
    assertEquals(List.of(" cat", " dog"), CommandLineRun.keys(top));
    assertEquals(0.021, Math.exp(top.get(" dog").asDouble()), 0.001); // as halter demo has it
    JsonNode prompt = choice.get("prompt_logprobs");
    int[] tokens = server.model.tokenizer().encode(QUESTION, false);
    assertEquals(tokens.length, prompt.size());
    assertTrue(prompt.get(0).isNull());
    for (int i = 1; i < tokens.length; i++) {
      JsonNode own = prompt.get(i).get(Integer.toString(tokens[i]));
      assertFalse(own == null, "token " + i);
      assertTrue(own.get("logprob").asDouble() <= 0);
      assertTrue(prompt.get(i).has(Integer.toString(dog)));
    }
    assertTrue(
        choice(prompt() + ", 'max_tokens': 1, 'logprobs': 0, 'return_tokens_as_token_ids': true")
            .get("logprobs")
            .get("tokens")
            .get(0)
            .asText()
            .startsWith("token_id:"));
  }

  @Test
  void aTextDoesNotDependOnItsNeighbours() throws Exception {
    List<String> bodies = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      bodies.add(
          "{'prompt': '%s', 'temperature': %s, 'max_tokens': %d, 'seed': %d, 'ignore_eos': true, 'logprobs': 2%s}"
              .formatted(
                  QUESTION,
                  i % 3 == 0 ? "0" : "1.2",
                  4 + i % 13,
                  i,
                  i % 2 == 0 ? ", 'plan': 'dogs'" : ""));
    }
    List<String> alone = bodies.stream().map(CompletionsTest::choices).toList();
    assertTrue(alone.stream().distinct().count() > 30);
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<String>> together =
          bodies.stream().map(body -> threads.submit(() -> choices(body))).toList();
      for (int i = 0; i < bodies.size(); i++) {
        assertEquals(alone.get(i), together.get(i).get(), bodies.get(i));
      }
    }
  }

  private static String choices(String body) {
    return server.post(PATH, body).ok().get("choices").toString();
  }

  @Test
  void aRequestMayBringItsIdAndASalt() {
    String body = "{'prompt': 'a', 'max_tokens': 2, 'temperature': 0%s}";
    JsonNode plain = server.post(PATH, body.formatted("")).ok();
    String own = ", 'request_id': 'job:7', 'cache_salt': 'mine', 'priority': 0";
    JsonNode named = server.post(PATH, body.formatted(own)).ok();
    assertEquals("cmpl-job:7", named.get("id").asText());
    assertEquals(plain.get("choices"), named.get("choices"));
  }

  /** lm-eval takes ids, which begin with the model's first token, to text and back. */
  @Test
  void aTextThatBeginsWithTheFirstTokenGetsNoSecond() {
    String body = "'max_tokens': 1, 'return_token_ids': true, 'prompt': '%s'%s";
    String plain = QUESTION.replace("<|bos|>", "");
    JsonNode expected = choice(body.formatted(plain, "")).get("prompt_token_ids");
    assertEquals(0, expected.get(0).asInt());
    assertEquals(expected, choice(body.formatted(QUESTION, "")).get("prompt_token_ids"));
    assertEquals(
        expected.size() - 1,
        choice(body.formatted(plain, ", 'add_special_tokens': false"))
            .get("prompt_token_ids")
            .size());
    assertEquals(
        expected.size() + 1,
        choice(body.formatted("<|bos|>" + QUESTION, "")).get("prompt_token_ids").size(),
        "one that the text itself has twice stays");
  }

  @Test
  void tokensComeAndGo() {
    JsonNode info = server.get("/tokenizer_info").ok();
    assertEquals("<|end|>", info.get("eos_token").asText());
    assertEquals("<|bos|>", info.get("bos_token").asText());
    assertTrue(info.get("chat_template").asText().contains("messages"));
    JsonNode made =
        server
            .post(
                "/tokenize",
                "{'prompt': 'test', 'add_special_tokens': false, 'return_token_strs': true}")
            .ok();
    int[] expected = server.model.tokenizer().encode("test", false);
    int[] tokens = new int[made.get("count").asInt()];
    Arrays.setAll(tokens, i -> made.get("tokens").get(i).asInt());
    assertArrayEquals(expected, tokens);
    assertEquals(tokens.length, made.get("token_strs").size());
    assertEquals(server.model.engine().maxTokens(), made.get("max_model_len").asInt());
    JsonNode back = server.post("/detokenize", "{'tokens': " + made.get("tokens") + "}").ok();
    assertEquals("test", back.get("prompt").asText());
    JsonNode chat =
        server
            .post(
                "/tokenize",
                "{'messages': [{'role': 'user', 'content': 'What is your favourite animal?'}]}")
            .ok();
    int[] question = server.model.tokenizer().encode(QUESTION, false);
    assertArrayEquals(
        question,
        IntStream.range(0, chat.get("count").asInt())
            .map(i -> chat.get("tokens").get(i).asInt())
            .toArray());
  }

  @Test
  void aPromptThatEndsInTheMidstOfACharacterIsAnsweredAlikeWholeAndStreamed() {
    int[] character = server.model.tokenizer().encode("é", false);
    int[] half = {character[0]};
    assertEquals("\uFFFD", server.model.tokenizer().decode(half, true), "its first byte alone");
    for (String forced : List.of("", ", 'allowed_token_ids': [" + character[1] + "]")) {
      String body =
          "{'prompt': [0, %d], 'max_tokens': 4, 'temperature': 0, 'ignore_eos': true%s"
              .formatted(half[0], forced);
      String whole =
          server
              .post("/v1/completions", body + "}")
              .ok()
              .get("choices")
              .get(0)
              .get("text")
              .asText();
      StringBuilder streamed = new StringBuilder();
      server
          .post("/v1/completions", body + ", 'stream': true}")
          .events()
          .forEach(event -> streamed.append(event.get("choices").get(0).get("text").asText()));
      if (forced.isEmpty()) {
        assertEquals(whole, streamed.toString());
        assertFalse(whole.startsWith("\uFFFD"), whole);
      } else {
        assertTrue(streamed.toString().startsWith("é"), streamed.toString());
      }
    }
  }
}
