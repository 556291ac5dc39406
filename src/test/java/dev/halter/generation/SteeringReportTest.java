package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.ScarceDevice;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Edit;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport.Entry;
import dev.halter.steering.Trigger;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What reports of requests say, whatever ran beside them. */
class SteeringReportTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final Llama.Limits ROOMY = new Llama.Limits(512, 16, 16, 64, 4 * KvCache.PAGE);
  private static final Llama.Limits TIGHT = new Llama.Limits(23, 3, 3, 12, 4 * KvCache.PAGE);
  private static final int D = 48;

  private static float[] vector(int seed) {
    Random random = new Random(seed);
    float[] vector = new float[D];
    for (int i = 0; i < D; i++) {
      vector[i] = (float) random.nextGaussian();
    }
    return vector;
  }

  private static double norm(float[] vector) {
    double squares = 0;
    for (float value : vector) {
      squares += (double) value * value;
    }
    return Math.sqrt(squares);
  }

  private static SteeringPlan plan(int seed) {
    return SteeringPlan.of(Edit.add("blocks.0.hook_resid_post", vector(seed), 2))
        .when(Trigger.promptWindow(3, 150).or(Trigger.GENERATION))
        .then(
            SteeringPlan.of(
                Edit.scaleHeads("blocks.1.attn.hook_z", 0, 1, 4),
                Edit.clampProjection("blocks.1.hook_resid_post", vector(seed + 1), -1, 1)))
        .then(
            SteeringPlan.of(Edit.clamp("blocks.0.mlp.hook_post", 3, 2))
                .when(Trigger.promptPositions(70, -1)));
  }

  private static Request request(int seed, int length) {
    return Request.of(new Random(seed).ints(length, 3, 128).toArray())
        .withId("r" + seed)
        .withMaxTokens(6)
        .with(plan(seed % 3));
  }

  private static List<Request> requests() {
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < 9; i++) {
      requests.add(request(i, 20 + 25 * i));
    }
    return requests;
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void aReportCountsTheTokensAndTheirChanges(Device device) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, ROOMY);
        Engine engine = new Engine(model, false)) {
      for (Result result : engine.run(requests())) {
        int prompt = result.request().prompt().length;
        int seed = Integer.parseInt(result.request().id().substring(1)) % 3;
        int fedBack = result.orThrow().tokens().length - 1;
        List<Entry> entries = result.report().interventions();
        assertEquals(Math.min(prompt, 150) - 3 + fedBack, entries.get(0).tokens());
        double step = 2 * norm(vector(seed));
        assertEquals(step, entries.get(0).meanChange(), 1e-6 * step);
        assertEquals(prompt + fedBack, entries.get(1).tokens());
        assertEquals(prompt + fedBack, entries.get(2).tokens());
        assertNotEquals(0, entries.get(1).meanChange());
        assertEquals(prompt == 70 || prompt < 70 ? 1 : 2, entries.get(3).tokens());
        assertNotEquals(0, entries.get(3).meanChange());
      }
    }
  }

  /** To the last digit: neighbours, chunks of prompts and places in the cache change nothing. */
  @Test
  void aReportDependsOnItsRequestAlone() {
    try (Device device = CpuDevice.open(2)) {
      List<String> together = reports(device, ROOMY, requests());
      assertEquals(together, reports(device, TIGHT, requests()));
      List<Request> backwards = requests().reversed();
      assertEquals(together.reversed(), reports(device, ROOMY, backwards));
      for (int i = 0; i < together.size(); i++) {
        List<Request> alone = List.of(requests().get(i));
        assertEquals(together.get(i), reports(device, ROOMY, alone).getFirst());
      }
    }
  }

  private static List<String> reports(Device device, Llama.Limits limits, List<Request> requests) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, limits);
        Engine engine = new Engine(model, false)) {
      return engine.run(requests).stream().map(result -> result.orThrow().report() + "").toList();
    }
  }

  /** More pages than the cache has, each counted for every request that holds it. */
  @Test
  void reportsOfManyThatHoldTheSamePagesAreReadTogether() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, new Llama.Limits(512, 16, 16, 20, 256));
        Engine engine = new Engine(model)) {
      SteeringPlan plan = plan(0);
      Request request = request(0, 190).with(plan).withMaxTokens(2);
      List<Request> many = Collections.nCopies(16, request);
      engine.run(request).orThrow(); // whose pages the others have
      String alone = engine.run(request).orThrow().report().toString();
      int[] heard = {0};
      engine.run(
          many.iterator(),
          result -> {
            assertEquals(alone, result.orThrow().report().toString());
            heard[0]++;
          });
      assertEquals(16, heard[0]);
    }
  }

  /**
   * What a prompt that waits for its turn brings is there before the step of those in front ends.
   */
  @Test
  void plansOfPromptsThatWaitArePreparedMeanwhile() {
    try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2))) {
      try (Llama model = Llama.load(MODEL, device, DType.F32, new Llama.Limits(8, 8, 4, 8, 64));
          Engine engine = new Engine(model, false)) {
        Request first = Request.of(IntStream.range(3, 11).toArray()).withMaxTokens(1);
        engine.run(List.of(first, first)).forEach(Result::orThrow);
        long before = device.bytes();
        List<Long> bytes = new ArrayList<>();
        Request second = first.with(SteeringPlan.of(Edit.scaleHeads("blocks.0.attn.hook_z", 0, 1)));
        List<Request> both =
            List.of(
                first.with(token -> bytes.add(device.bytes())),
                second.with(token -> bytes.add(device.bytes())));
        engine.run(both).forEach(Result::orThrow);
        assertTrue(bytes.getFirst() > before, "the second's heads are there");
      }
      assertEquals(0, device.buffers());
    }
  }
}
