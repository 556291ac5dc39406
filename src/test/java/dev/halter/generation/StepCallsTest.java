package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

/** What steps ask of the driver once they are recorded. */
@DisabledIfSystemProperty(named = "halter.test.cuda", matches = "real")
class StepCallsTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final List<String> CALLS =
      List.of(
          "cuGraphLaunch",
          "cuLaunchKernel",
          "cuMemcpyHtoDAsync_v2",
          "cuMemcpyDtoHAsync_v2",
          "cuMemcpyDtoDAsync_v2",
          "cuMemsetD8Async",
          "cuMemAlloc_v2",
          "cuStreamSynchronize",
          "cuEventRecord",
          "cuEventSynchronize");

  @Test
  void areOneLaunchOneUploadAndOneDownload() {
    List<Sampling> samplings =
        List.of(
            Sampling.GREEDY,
            new Sampling(1, 0, 0.9f, 1),
            new Sampling(0.8f, 20, 0.9f, 2),
            Sampling.GREEDY.withRepetitionPenalty(1.2f));
    for (int rows : new int[] {1, 2, 4}) {
      assertEquals(
          Map.of(
              "cuGraphLaunch", 1L,
              "cuMemcpyHtoDAsync_v2", 1L,
              "cuMemcpyDtoHAsync_v2", 1L,
              "cuStreamSynchronize", 1L),
          callsOfAStep(samplings.subList(4 - rows, 4)));
    }
  }

  /** Between the sixth and the seventh token of requests that go side by side. */
  private static Map<String, Long> callsOfAStep(List<Sampling> samplings) {
    List<Map<String, Long>> heard = new ArrayList<>();
    try (Golden golden = new Golden("llama3");
        Device device = TestCuda.open();
        Llama model =
            Llama.load(
                golden.folder.resolve("model"),
                device,
                DType.F32,
                new Llama.Limits(64, 8, 4, 8, 64));
        Engine engine = new Engine(model)) {
      List<Request> requests = new ArrayList<>();
      for (Sampling sampling : samplings) {
        Request request =
            Request.of(IntStream.range(3, 9).toArray()).with(sampling).withMaxTokens(10);
        requests.add(requests.isEmpty() ? request.with(token -> heard.add(calls())) : request);
      }
      engine.run(requests).forEach(Result::orThrow);
    }
    Map<String, Long> ofStep = new TreeMap<>();
    CALLS.forEach(call -> ofStep.put(call, heard.get(6).get(call) - heard.get(5).get(call)));
    ofStep.values().removeIf(count -> count == 0);
    return ofStep;
  }

  /** Whatever they bring and report, and from one run to the next. */
  @Test
  void ofARunAreNotMoreForMorePlans() {
    try (Device device = TestCuda.open();
        Llama model = Llama.load(MODEL, device, DType.F32, new Llama.Limits(64, 8, 8, 16, 64));
        Engine engine = new Engine(model, false)) {
      callsOfPlans(engine, 8, 0); // tables are large enough, steps recorded
      callsOfPlans(engine, 8, 8);
      Map<String, Long> ofOne = callsOfPlans(engine, 1, 16);
      assertEquals(ofOne, callsOfPlans(engine, 8, 17));
      assertEquals(0, ofOne.get("cuMemAlloc_v2"));
      long steps = 3 + 1; // the prompts' and those that are waited for with each token
      assertEquals(steps, ofOne.get("cuStreamSynchronize"), "one more for all reports");
    }
  }

  /** Eight requests that begin and end together, under so many plans that nobody has had before. */
  private static Map<String, Long> callsOfPlans(Engine engine, int count, int first) {
    List<SteeringPlan> plans = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      float[] vector = new float[engine.model().config().dModel()];
      vector[0] = 1 + first + i;
      plans.add(SteeringPlan.of(Edit.add("blocks.0.hook_resid_post", vector, 1)));
    }
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      requests.add(Request.of(new int[] {3, 4, 5}).withMaxTokens(3).with(plans.get(i % count)));
    }
    Map<String, Long> before = calls();
    for (Result result : engine.run(requests)) {
      assertEquals(5, result.orThrow().report().interventions().getFirst().tokens());
    }
    Map<String, Long> ofRun = calls();
    ofRun.replaceAll((call, after) -> after - before.get(call));
    return ofRun;
  }

  private static Map<String, Long> calls() {
    Map<String, Long> counts = new TreeMap<>();
    CALLS.forEach(call -> counts.put(call, TestCuda.calls(call)));
    return counts;
  }
}
