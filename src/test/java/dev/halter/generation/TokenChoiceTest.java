package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What requests ask of the choice of their tokens, and of log-probabilities, through the engine.
 */
class TokenChoiceTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final int VOCABULARY = 128;
  private static final Llama.Limits ROOMY = new Llama.Limits(64, 16, 8, 16, 128);
  private static final Llama.Limits TIGHT = new Llama.Limits(7, 3, 2, 3, 128);

  private static void with(Device device, Llama.Limits limits, Consumer<Engine> test) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, limits);
        Engine engine = new Engine(model)) {
      test.accept(engine);
    }
  }

  private static Request request(int length, int maxTokens) {
    int[] prompt = new Random(length).ints(length, 3, VOCABULARY).toArray();
    return Request.of(prompt).withMaxTokens(maxTokens);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void stopTokensDoNotComeTooEarly(Device device) {
    with(
        device,
        ROOMY,
        engine -> {
          int[] plain = engine.run(request(5, 8)).orThrow().tokens();
          Request ending = request(5, 8).withStopTokens(Set.of(plain[1]));
          Result early = engine.run(ending).orThrow();
          assertEquals(Result.Finish.STOP, early.finish());
          assertArrayEquals(Arrays.copyOf(plain, early.tokens().length), early.tokens());
          assertEquals(plain[1], early.stop().id());
          Result late = engine.run(ending.withMinTokens(6)).orThrow();
          assertTrue(late.tokens().length >= 6, Arrays.toString(late.tokens()));
          assertFalse(IntStream.of(late.tokens()).anyMatch(id -> id == plain[1]));
          Result never = engine.run(ending.withStopTokens(Set.of())).orThrow();
          assertArrayEquals(plain, never.tokens());
          assertNull(never.stop());
        });
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void biasAndAllowedTokensDecide(Device device) {
    with(
        device,
        ROOMY,
        engine -> {
          Request plain = request(5, 6);
          int[] before = engine.run(plain).orThrow().tokens();
          assertFalse(IntStream.of(before).anyMatch(id -> id == 77), "77 would come by itself");
          Sampling biased = Sampling.GREEDY.withLogitBias(Map.of(77, 100f));
          Result all77 = engine.run(plain.with(biased)).orThrow();
          assertArrayEquals(new int[] {77, 77, 77, 77, 77, 77}, all77.tokens());
          assertTrue(all77.logProbabilities()[0] < -1, "the bias is not in the log-probability");
          Sampling without =
              Sampling.GREEDY.withLogitBias(Map.of(before[0], Float.NEGATIVE_INFINITY));
          assertNotEquals(before[0], engine.run(plain.with(without)).orThrow().tokens()[0]);
          Sampling few = new Sampling(2, 0, 1, 3).withAllowedTokens(Set.of(9, 20, 100));
          for (int token : engine.run(plain.with(few)).orThrow().tokens()) {
            assertTrue(Set.of(9, 20, 100).contains(token));
          }
        });
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatForbidsEverythingIsOneClearError(Device device) {
    with(
        device,
        ROOMY,
        engine -> {
          Map<Integer, Float> all = new HashMap<>();
          IntStream.range(0, VOCABULARY).forEach(id -> all.put(id, Float.NEGATIVE_INFINITY));
          Request none = request(5, 6).withId("n").with(Sampling.GREEDY.withLogitBias(all));
          List<Result> results = engine.run(List.of(none, request(5, 6).withId("p")));
          assertTrue(
              results.get(0).failure().getMessage().contains("every token is forbidden"),
              results.get(0).failure().getMessage());
          assertEquals(6, results.get(1).orThrow().tokens().length);
          Request onlyStops =
              request(5, 6)
                  .with(Sampling.GREEDY.withAllowedTokens(Set.of(7)))
                  .withStopTokens(Set.of(7))
                  .withMinTokens(1);
          assertTrue(engine.run(onlyStops).failure().getMessage().contains("min_tokens"));
          assertRefused(engine, request(5, 6).withMinTokens(7), "min_tokens");
          assertRefused(
              engine,
              request(5, 6).with(Sampling.GREEDY.withLogitBias(Map.of(VOCABULARY, 1f))),
              "logit_bias");
          assertRefused(
              engine,
              request(5, 6).with(Sampling.GREEDY.withAllowedTokens(Set.of(-1))),
              "allowed token");
          assertRefused(engine, request(5, 6).with(LogProbabilities.of(VOCABULARY)), "logprobs");
        });
  }

  private static void assertRefused(Engine engine, Request request, String what) {
    String message = engine.run(request).failure().getMessage();
    assertTrue(message.startsWith(what), message);
  }

  /** A penalty that is high enough lets no token come twice, and not what was in the prompt. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void penaltiesFollowWhatWasGenerated(Device device) {
    with(
        device,
        ROOMY,
        engine -> {
          Request plain = request(5, 20);
          int[] before = engine.run(plain).orThrow().tokens();
          assertTrue(IntStream.of(before).distinct().count() < 20, "nothing comes twice anyway");
          for (Sampling sampling :
              List.of(
                  Sampling.GREEDY.withFrequencyPenalty(1e6f),
                  Sampling.GREEDY.withPresencePenalty(1e6f))) {
            int[] tokens = engine.run(plain.with(sampling)).orThrow().tokens();
            assertEquals(20, IntStream.of(tokens).distinct().count(), sampling.toString());
          }
          // Two requests with one prompt, side by side, count each its own.
          Sampling drawn = new Sampling(1, 0, 1, 4).withFrequencyPenalty(1e6f);
          Request first = plain.with(drawn);
          Request second = plain.with(drawn.withSeed(5));
          List<Result> together = engine.run(List.of(first, plain, second));
          assertArrayEquals(before, together.get(1).tokens());
          for (int i : new int[] {0, 2}) {
            int[] alone = engine.run(together.get(i).request()).orThrow().tokens();
            assertArrayEquals(alone, together.get(i).tokens());
          }
        });
  }

  /** Of all that a plan steers too; and the greedy one's is the largest, bit by bit. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void logProbabilitiesAreTheModelsOwn(Device device) {
    float[] vector = new float[48];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) Math.cos(i);
    }
    Edit edit = new Edit.Add(new Site(Site.Kind.RESID_POST, 0), vector, 2);
    SteeringPlan plan = SteeringPlan.of(edit);
    for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
      with(
          device,
          limits,
          engine -> {
            Request wanting =
                request(20, 6)
                    .with(plan)
                    .with(LogProbabilities.top(5).withPrompt(3).withTokens(List.of(64, 3, 64)));
            int[] plain = engine.run(request(20, 6).with(plan)).orThrow().tokens();
            Result result = engine.run(wanting).orThrow();
            assertArrayEquals(plain, result.tokens());
            Sampling penalised = Sampling.GREEDY.withFrequencyPenalty(2).withMinP(0.1f);
            check(engine, plan, result);
            check(engine, plan, engine.run(wanting.with(penalised)).orThrow());
            Result read = engine.run(wanting.withMaxTokens(0)).orThrow();
            assertEquals(result.prompt(), read.prompt());
            for (int i = 0; i < 6; i++) {
              assertEquals(
                  result.logProbabilities()[i],
                  result.alternatives().get(i).likeliest().getFirst().logProbability());
            }
          });
    }
  }

  private static void check(Engine engine, SteeringPlan plan, Result result) {
    int[] prompt = result.request().prompt();
    int[] text = Arrays.copyOf(prompt, prompt.length + result.tokens().length);
    System.arraycopy(result.tokens(), 0, text, prompt.length, result.tokens().length);
    float[] logits = Logits.of(engine, text, plan);
    assertEquals(prompt.length, result.prompt().size());
    assertTrue(Float.isNaN(result.prompt().getFirst().logProbability()));
    assertEquals(Alternatives.NONE, result.prompt().getFirst().alternatives());
    for (int i = 1; i < text.length; i++) {
      float[] row = Arrays.copyOfRange(logits, (i - 1) * VOCABULARY, i * VOCABULARY);
      boolean isPrompt = i < prompt.length;
      Generation.Token token =
          isPrompt
              ? result.prompt().get(i)
              : new Generation.Token(
                  result.tokens()[i - prompt.length],
                  result.logProbabilities()[i - prompt.length],
                  result.alternatives().get(i - prompt.length));
      double all = Logits.logSumExp(row, 0, VOCABULARY);
      assertEquals(text[i], token.id());
      assertEquals(row[text[i]] - all, token.logProbability(), 1e-4);
      List<Integer> order =
          IntStream.range(0, VOCABULARY)
              .boxed()
              .sorted((a, b) -> row[a] == row[b] ? a - b : Float.compare(row[b], row[a]))
              .limit(isPrompt ? 3 : 5)
              .toList();
      List<Alternatives.Candidate> top = token.alternatives().likeliest();
      assertEquals(order, top.stream().map(Alternatives.Candidate::token).toList());
      for (Alternatives.Candidate each : top) {
        assertEquals(row[each.token()] - all, each.logProbability(), 1e-4);
        assertTrue(each.token() != token.id() || each.logProbability() == token.logProbability());
      }
      List<Alternatives.Candidate> named = token.alternatives().named();
      assertEquals(List.of(64, 3, 64), named.stream().map(Alternatives.Candidate::token).toList());
      for (Alternatives.Candidate each : named) {
        assertEquals(row[each.token()] - all, each.logProbability(), 1e-4);
      }
    }
  }
}
