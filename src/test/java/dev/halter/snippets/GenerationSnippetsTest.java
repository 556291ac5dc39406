package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.device.DType;
import dev.halter.generation.Alternatives;
import dev.halter.generation.Answer;
import dev.halter.generation.AsyncEngine;
import dev.halter.generation.Conversation;
import dev.halter.generation.Generation;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.generation.Sampling;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.generation} show. */
class GenerationSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void first() {
    Path folder = DEMO;
    // @start region="first"
    try (LanguageModel model = LanguageModel.open(folder)) {
      System.out.println(model.chat("What is your favourite animal?"));
    }
    // @end
  }

  @Test
  void conversation() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      SteeringPlan plan = Demo.dog();
      // @start region="conversation"
      Conversation conversation = new Conversation(model, 64);
      for (String question : List.of("What is your favourite animal?", "Is it big?")) {
        Conversation.Prompt prompt = conversation.prompt(question);
        System.out.println(conversation.answer(prompt, plan, Sampling.GREEDY, null));
      }
      // @end
      assertEquals(2, conversation.turns());
      assertTrue(conversation.lastAnswer().report().interventions().getFirst().tokens() > 0);
    }
  }

  @Test
  void answersAsTheEngineDoes() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      List<Message> messages = List.of(new Message("user", "What is your favourite animal?"));
      Answer answer = model.chat(messages);
      Result result = model.engine().run(model.request(model.encode(messages))).orThrow();
      assertArrayEquals(result.tokens(), answer.result().tokens());
      assertEquals(model.decode(result.tokens()), answer.text());
      assertEquals(answer.text(), model.chat("What is your favourite animal?").toString());
      assertFalse(answer.text().isBlank());
      Request endless = model.request("a " + "dog ".repeat(model.engine().maxTokens()));
      assertThrows(IllegalArgumentException.class, () -> model.generate(endless));
    }
  }

  @Test
  void open() {
    Path folder = DEMO;
    List<Integer> layers = new ArrayList<>();
    // @start region="open"
    try (LanguageModel model =
        LanguageModel.at(folder)
            .device("cpu")
            .dtype("bf16")
            .threads(2)
            .context(512)
            .maxBatch(8)
            .onProgress(layers::add)
            .onFallback(System.err::println)
            .open()) {
      System.out.println(model.device().description() + ": " + model.plan());
    }
    // @end
    assertEquals(List.of(1, 2, 3, 4), layers);
  }

  @Test
  void opensAsAsked() {
    try (LanguageModel model =
        LanguageModel.at(DEMO).device("cpu").dtype("bf16").context(128).maxBatch(3).open()) {
      assertEquals("cpu", model.device().kind());
      assertEquals(DType.BF16, model.llama().type());
      assertEquals(128, model.engine().maxTokens());
      assertEquals(3, model.llama().limits().sequences());
    }
  }

  @Test
  void namesWhatCannotBeOpened() {
    assertThrows(IllegalArgumentException.class, () -> LanguageModel.at(DEMO).threads(-1).open());
    assertThrows(IllegalArgumentException.class, () -> LanguageModel.at(DEMO).device("tpu").open());
    assertThrows(
        IllegalArgumentException.class,
        () -> LanguageModel.at(DEMO).device("cpu").dtype("f8").open());
    assertThrows(IllegalArgumentException.class, () -> LanguageModel.open(DEMO.resolve("nowhere")));
  }

  @Test
  void request() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      List<String> heard = new ArrayList<>();
      // @start region="request"
      Request request =
          model
              .request("My favourite animal is")
              .withMaxTokens(8)
              .with(Sampling.GREEDY.withTemperature(0.8f).withTopP(0.95f).withSeed(7))
              .with(token -> heard.add(model.decode(new int[] {token.id()})));
      Answer answer = model.generate(request);
      // @end
      assertTrue(heard.size() >= answer.result().tokens().length);
      assertEquals(answer.text(), model.generate(List.of(request)).getFirst().text());
    }
  }

  @Test
  void sampling() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="sampling"
      Sampling lively =
          Sampling.GREEDY.withTemperature(0.8f).withMinP(0.05f).withFrequencyPenalty(0.5f);
      Request request =
          model.request("My favourite animal is").with(lively).with(LogProbabilities.top(5));
      Result result = model.generate(request).result();
      for (Alternatives.Candidate each : result.alternatives().getFirst().likeliest()) {
        System.out.println(
            model.tokenizer().piece(each.token()) + " " + Math.exp(each.logProbability()));
      }
      // @end
      assertEquals(5, result.alternatives().getFirst().likeliest().size());
    }
  }

  @Test
  void submit() {
    SteeringPlan plan = Demo.dog();
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="submit"
      try (AsyncEngine engine = new AsyncEngine(model.engine())) {
        Request request = model.request("My favourite animal is");
        Generation steered = engine.submit(request.with(plan));
        Generation plain = engine.submit(request, Duration.ofSeconds(30));
        steered.tokens().forEach(token -> System.out.print(model.tokenizer().piece(token.id())));
        System.out.println(" instead of" + model.decode(plain.result().join().tokens()));
      }
      // @end
    }
  }
}
