package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.SameBits;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Continuous batching. Products of the CPU and of the stand-in for CUDA give a row the same bits in
 * any batch, so logits are compared bit by bit; a GPU's cuBLAS chooses its kernels by size, so
 * there they agree to rounding.
 */
class EngineTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final String MODEL = "llama3"; // 6 heads, d_model 48, vocabulary 128
  private static final int VOCABULARY = 128;
  private static final Llama.Limits ROOMY = new Llama.Limits(256, 64, 16, 32, 128);
  private static final Llama.Limits TIGHT = new Llama.Limits(7, 3, 2, 3, 128);

  /** Runs requests and hears the log-probabilities of all tokens at every generated one. */
  private static final class Run {
    final Map<String, Result> results = new LinkedHashMap<>();
    final Map<String, List<float[]>> rows = new LinkedHashMap<>();
    final Map<String, List<Integer>> heard = new LinkedHashMap<>();

    Run(Engine engine, List<Request> requests) {
      List<Request> listening = new ArrayList<>();
      for (Request request : requests) {
        rows.put(request.id(), new ArrayList<>());
        heard.put(request.id(), new ArrayList<>());
        listening.add(
            request
                .with(everyToken(engine.model()))
                .with(
                    token -> {
                      heard.get(request.id()).add(token.id());
                      rows.get(request.id()).add(row(token.alternatives()));
                    }));
      }
      List<Result> inOrder = engine.run(listening);
      for (int i = 0; i < requests.size(); i++) {
        assertEquals(requests.get(i).id(), inOrder.get(i).request().id());
        results.put(requests.get(i).id(), inOrder.get(i));
      }
    }

    int[] tokens(String id) {
      return results.get(id).orThrow().tokens();
    }
  }

  /** The whole row of log-probabilities. */
  static LogProbabilities everyToken(Llama model) {
    int vocabulary = model.config().vocabularySize();
    return LogProbabilities.NONE.withTokens(IntStream.range(0, vocabulary).boxed().toList());
  }

  static float[] row(Alternatives alternatives) {
    float[] row = new float[alternatives.named().size()];
    for (int i = 0; i < row.length; i++) {
      row[i] = alternatives.named().get(i).logProbability();
    }
    return row;
  }

  private static void assertSame(Run expected, Run actual, String id) {
    assertArrayEquals(expected.tokens(id), actual.tokens(id), "tokens of " + id);
    for (int i = 0; i < expected.rows.get(id).size(); i++) {
      SameBits.assertSame(
          expected.rows.get(id).get(i),
          actual.rows.get(id).get(i),
          SameResults.BOUND,
          "log-probabilities of " + id);
    }
  }

  private static void with(Device device, DType type, Llama.Limits limits, Consumer<Engine> test) {
    try (Golden golden = new Golden(MODEL);
        Llama model = Llama.load(golden.folder.resolve("model"), device, type, limits);
        Engine engine = new Engine(model)) {
      test.accept(engine);
      assertEquals(limits.sequences(), model.cache().sequencesFree());
      assertEquals(limits.pages(), model.cache().pagesFree());
    }
  }

  private static int[] prompt(int length, long seed) {
    return new Random(seed).ints(length, 3, VOCABULARY).toArray();
  }

  private static List<Request> requests(int maxTokens) {
    int[] lengths = {1, 17, 70, 3, 8};
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < lengths.length; i++) {
      requests.add(Request.of(prompt(lengths[i], i)).withId("r" + i).withMaxTokens(maxTokens));
    }
    return requests;
  }

  private static SteeringPlan add(float scale) {
    float[] vector = new float[48];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) Math.sin(i);
    }
    return SteeringPlan.of(new Edit.Add(new Site(Site.Kind.RESID_POST, 0), vector, scale));
  }

  private static SteeringPlan heads(float scale) {
    Edit edit = new Edit.Heads(new Site(Site.Kind.Z, 1), new int[] {0, 3, 5}, scale);
    return SteeringPlan.of(edit);
  }

  private static SteeringPlan clamp(int neuron, float value) {
    return SteeringPlan.of(Edit.clamp(new Site(Site.Kind.PRE_LINEAR, 1), neuron, value));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void orderBatchChunksAndNeighboursDoNotChangeARequest(Device device) {
    List<Request> requests = requests(6);
    Map<String, Run> alone = new LinkedHashMap<>();
    with(
        device,
        DType.F32,
        ROOMY,
        engine -> {
          for (Request request : requests) {
            alone.put(request.id(), new Run(engine, List.of(request)));
          }
          Run together = new Run(engine, requests);
          alone.forEach((id, run) -> assertSame(run, together, id));
        });
    with(
        device,
        DType.F32,
        TIGHT,
        engine -> {
          List<Request> reversed = new ArrayList<>(requests);
          Collections.reverse(reversed);
          Run chunked = new Run(engine, reversed);
          alone.forEach((id, run) -> assertSame(run, chunked, id));
        });
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void steeredNeighboursLeaveAnUnsteeredRequestEveryBit(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      with(
          device,
          type,
          ROOMY,
          engine -> {
            Request plain = Request.of(prompt(9, 1)).withId("plain").withMaxTokens(5);
            Run alone = new Run(engine, List.of(plain));
            List<Request> mixed = new ArrayList<>();
            List<SteeringPlan> plans =
                List.of(add(3), heads(0), clamp(7, 20), add(-2).then(heads(4)));
            for (int i = 0; i < plans.size(); i++) {
              mixed.add(
                  Request.of(prompt(9, 1)).withId("s" + i).withMaxTokens(5).with(plans.get(i)));
            }
            mixed.add(2, plain);
            Run run = new Run(engine, mixed);
            assertSame(alone, run, "plain");
            for (int i = 0; i < plans.size(); i++) {
              assertFalse(
                  Arrays.equals(run.rows.get("plain").getFirst(), run.rows.get("s" + i).getFirst()),
                  "plan " + i + " does nothing");
            }
          });
    }
  }

  /** x + 0·v and z·1 are x and z themselves; only the sign of a zero could change. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void plansThatChangeNothingLeaveEveryBitAndSaySo(Device device) {
    with(
        device,
        DType.BF16,
        ROOMY,
        engine -> {
          Request plain = Request.of(prompt(9, 1)).withId("r").withMaxTokens(4);
          Run expected = new Run(engine, List.of(plain));
          for (SteeringPlan plan : List.of(add(0), heads(1))) {
            Run run = new Run(engine, List.of(plain.with(plan)));
            assertSame(expected, run, "r");
            SteeringReport.Entry entry = run.results.get("r").report().interventions().getFirst();
            assertEquals(9 + 3, entry.tokens());
            assertEquals(0, entry.meanChange());
          }
        });
  }

  /** More plans than slots are kept for, twice, so that slots are given up in between. */
  @Test
  void hundredsOfPlansInOneBatchActEachAsAlone() {
    int count = 300;
    try (Device device = CpuDevice.open(2)) {
      Llama.Limits limits = new Llama.Limits(1024, count, count, count, 64);
      with(
          device,
          DType.F32,
          limits,
          engine -> {
            for (int round = 0; round < 2; round++) {
              List<Request> requests = new ArrayList<>();
              for (int i = 0; i < count; i++) {
                float strength = 0.5f + 0.01f * (i + round * count);
                SteeringPlan plan =
                    i % 3 == 0 ? add(strength) : i % 3 == 1 ? heads(-strength) : clamp(i % 80, 5);
                requests.add(Request.of(prompt(3, 1)).withId("p" + i).withMaxTokens(3).with(plan));
              }
              Run run = new Run(engine, requests);
              for (int i = 0; i < count; i++) {
                SteeringReport report = run.results.get("p" + i).orThrow().report();
                assertEquals(3 + 2, report.interventions().getFirst().tokens());
                assertTrue(report.interventions().getFirst().meanChange() > 0);
                if (i % 20 == 7 * round) {
                  assertSame(new Run(engine, List.of(requests.get(i))), run, "p" + i);
                }
              }
              long distinct =
                  run.rows.values().stream()
                      .map(rows -> Arrays.hashCode(rows.getFirst()))
                      .distinct()
                      .count();
              assertTrue(distinct > 250, distinct + " different results");
            }
          });
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void sampledTextDependsOnItsSeedAlone(Device device) {
    with(
        device,
        DType.F32,
        ROOMY,
        engine -> {
          List<Request> requests = new ArrayList<>();
          for (int seed = 0; seed < 4; seed++) {
            requests.add(sampling("seed" + seed, new Sampling(1, 50, 0.95f, seed)));
          }
          requests.add(sampling("again", new Sampling(1, 50, 0.95f, 2)));
          Run run = new Run(engine, requests);
          Run alone = new Run(engine, List.of(requests.get(2)));
          assertArrayEquals(alone.tokens("seed2"), run.tokens("seed2"));
          assertArrayEquals(alone.tokens("seed2"), run.tokens("again"));
          assertFalse(Arrays.equals(run.tokens("seed0"), run.tokens("seed1")));
        });
  }

  private static Request sampling(String id, Sampling sampling) {
    return Request.of(prompt(5, 3)).withId(id).withMaxTokens(8).with(sampling);
  }

  @Test
  void aStopTokenEndsTheTextAndIsHeardButNotReturned() {
    try (Device device = CpuDevice.open(2)) {
      with(
          device,
          DType.F32,
          ROOMY,
          engine -> {
            Request request = Request.of(prompt(17, 1)).withId("r").withMaxTokens(12);
            Run free = new Run(engine, List.of(request));
            int[] tokens = free.tokens("r");
            assertEquals(Result.Finish.LENGTH, free.results.get("r").finish());
            assertArrayEquals(
                tokens, free.heard.get("r").stream().mapToInt(Integer::intValue).toArray());
            int stop = tokens[5];
            int first = Arrays.stream(tokens).boxed().toList().indexOf(stop);
            Run stopped =
                new Run(
                    engine,
                    List.of(
                        Request.of(prompt(17, 1))
                            .withId("r")
                            .withMaxTokens(12)
                            .withStopTokens(Set.of(stop))));
            assertArrayEquals(Arrays.copyOf(tokens, first), stopped.tokens("r"));
            assertEquals(Result.Finish.STOP, stopped.results.get("r").finish());
            assertEquals(first, stopped.results.get("r").logProbabilities().length);
            assertEquals(stop, stopped.heard.get("r").getLast());
          });
    }
  }

  @Test
  void aRequestForNoTokensReadsItsPromptOnly() {
    try (Device device = CpuDevice.open(2)) {
      with(
          device,
          DType.F32,
          ROOMY,
          engine -> {
            Site site = new Site(Site.Kind.RESID_POST, 2);
            Capture capture = new Capture(engine.model().config(), Set.of(site), 5);
            Request request = Request.of(prompt(5, 1)).withId("r").withMaxTokens(0).with(capture);
            Result result = engine.run(request).orThrow();
            assertEquals(0, result.tokens().length);
            assertEquals(Result.Finish.LENGTH, result.finish());
            for (float value : capture.values().get(site)) {
              assertTrue(value != 0);
            }
          });
    }
  }

  @Test
  void theContextEndsATextAndRefusesAPromptThatFillsIt() {
    try (Device device = CpuDevice.open(2)) {
      with(
          device,
          DType.F32,
          new Llama.Limits(64, 8, 4, 8, 64),
          engine -> {
            Request longer = Request.of(prompt(60, 1)).withId("r").withMaxTokens(100);
            Result result = engine.run(longer).orThrow();
            assertEquals(4, result.tokens().length);
            assertEquals(Result.Finish.LENGTH, result.finish());
            engine.run(Request.of(prompt(64, 1)).withId("r").withMaxTokens(0)).orThrow();
            assertRefused(
                engine, Request.of(prompt(64, 1)).withId("r").withMaxTokens(1), "64", "--context");
            assertRefused(
                engine, Request.of(prompt(65, 1)).withId("r").withMaxTokens(0), "65", "64");
          });
    }
  }

  @Test
  void aBadRequestFailsAloneAndSaysWhy() {
    try (Device device = CpuDevice.open(2)) {
      with(
          device,
          DType.F32,
          ROOMY,
          engine -> {
            SteeringPlan nothing =
                SteeringPlan.parse(
                    "{\"interventions\": [{\"op\": \"head_scale\", \"site\": \"blocks.0.attn.hook_z\","
                        + " \"heads\": [0], \"scale\": 2, \"when\": {\"prompt_tokens\": [1]}}]}",
                    Path.of("."),
                    engine.model().config());
            assertRefused(engine, Request.of(new int[0]).withId("bad").withMaxTokens(1), "empty");
            assertRefused(
                engine, Request.of(new int[] {128}).withId("bad").withMaxTokens(1), "0 to 127");
            assertRefused(engine, Request.of(new int[] {-1}).withId("bad").withMaxTokens(1), "-1");
            assertRefused(
                engine, Request.of(new int[] {5}).withId("bad").withMaxTokens(-1), "max_tokens");
            assertRefused(
                engine,
                Request.of(new int[] {5}).withId("bad").withMaxTokens(1).with(nothing),
                "selects nothing",
                "head_scale");
          });
    }
  }

  /** Refused between two requests that are served. */
  private static void assertRefused(Engine engine, Request bad, String... parts) {
    List<Request> requests =
        List.of(
            Request.of(prompt(3, 1)).withId("a").withMaxTokens(2),
            bad,
            Request.of(prompt(4, 1)).withId("b").withMaxTokens(2));
    List<Result> results = engine.run(requests);
    assertEquals(2, results.get(0).orThrow().tokens().length);
    assertEquals(2, results.get(2).orThrow().tokens().length);
    assertNull(results.get(1).finish());
    for (String part : parts) {
      String message = results.get(1).failure().getMessage();
      assertTrue(message.contains(part), message);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void anAbsurdPlanFailsAloneAndLeavesNothingBehind(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      with(
          device,
          type,
          TIGHT,
          engine -> {
            Request plain = Request.of(prompt(9, 1)).withId("plain").withMaxTokens(3);
            Run alone = new Run(engine, List.of(plain));
            List<Request> requests = new ArrayList<>();
            for (SteeringPlan plan : List.of(add(1e30f), clamp(3, 1e30f), heads(1e30f))) {
              requests.add(
                  Request.of(prompt(9, 2))
                      .withId("absurd" + requests.size())
                      .withMaxTokens(3)
                      .with(plan));
            }
            requests.add(1, plain);
            Run run = new Run(engine, requests);
            assertSame(alone, run, "plain");
            for (int i : new int[] {0, 2, 3}) {
              Result result = run.results.get(requests.get(i).id());
              assertTrue(result.failure() != null, requests.get(i).id() + " was served");
              assertTrue(
                  result.failure().getMessage().contains("plan's values are too large"),
                  result.failure().getMessage());
            }
            // The cache's pages that they leave hold no numbers.
            assertSame(alone, new Run(engine, List.of(plain)), "plain");
          });
    }
  }

  @Test
  void requestsWaitForPagesAndAllAreServed() {
    try (Device device = CpuDevice.open(2)) {
      List<Request> requests = new ArrayList<>();
      for (int i = 0; i < 9; i++) {
        requests.add(Request.of(prompt(i % 3 == 0 ? 100 : 20, i)).withId("r" + i).withMaxTokens(4));
      }
      List<Run> alone = new ArrayList<>();
      with(
          device,
          DType.F32,
          ROOMY,
          engine -> requests.forEach(request -> alone.add(new Run(engine, List.of(request)))));
      Llama.Limits twoPages = new Llama.Limits(64, 8, 8, 2, 2 * KvCache.PAGE);
      with(
          device,
          DType.F32,
          twoPages,
          engine -> {
            Run run = new Run(engine, requests);
            for (int i = 0; i < requests.size(); i++) {
              assertSame(alone.get(i), run, "r" + i);
            }
          });
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void captureInChunksEqualsCaptureInOne(Device device) {
    List<Map<Site, float[]>> captured = new ArrayList<>();
    for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
      with(
          device,
          DType.F32,
          limits,
          engine -> {
            List<Site> sites = Site.all(engine.model().config());
            Capture capture = new Capture(engine.model().config(), sites, 20);
            Request request =
                Request.of(prompt(20, 4)).withId("r").withMaxTokens(0).with(capture).with(add(2));
            Request neighbour = Request.of(prompt(5, 5)).withId("n").withMaxTokens(4);
            engine.run(List.of(neighbour, request)).forEach(Result::orThrow);
            captured.add(capture.values());
          });
    }
    captured
        .get(0)
        .forEach(
            (site, values) -> {
              float[] chunked = captured.get(1).get(site);
              SameBits.assertSame(values, chunked, 1e-4, site.name());
            });
  }

  /** The stand-in for CUDA reports leaks when it is closed, in every test above. */
  @Test
  void everythingIsGivenBackToTheDevice() {
    for (CpuDevice device :
        List.of((CpuDevice) CpuDevice.open(1), CpuDevice.openFaithful(Schedule.FORWARD, 1))) {
      try (device) {
        long before = device.allocated();
        with(
            device,
            DType.F32,
            ROOMY,
            engine -> {
              assertTrue(device.allocated() > before);
              Request request = Request.of(prompt(5, 1)).withId("r").withMaxTokens(3);
              engine.run(List.of(request.with(add(1)), request, request.with(heads(0))));
            });
        assertEquals(before, device.allocated());
      }
    }
  }
}
