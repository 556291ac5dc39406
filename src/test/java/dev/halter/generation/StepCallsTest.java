package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Llama;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

/** What a decode step asks of the driver once it is recorded. */
@DisabledIfSystemProperty(named = "halter.test.cuda", matches = "real")
class StepCallsTest {
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

  private static Map<String, Long> calls() {
    Map<String, Long> counts = new TreeMap<>();
    CALLS.forEach(call -> counts.put(call, TestCuda.calls(call)));
    return counts;
  }
}
