package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.steering.SteeringPlan;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/**
 * What a decode step leaves to Java's collector, once it is recorded: little, and hardly more for
 * more rows.
 *
 * <p>What remains of a step, whatever its rows: the batch and its lists, the shape of its work and
 * the key of its graph, views of the host's tables (FFM's are objects) and addresses for JCuda's
 * calls, and the arguments of the launch that sums what plans changed. Of each row: its {@link
 * dev.halter.model.Batch.Span} with its place in the batch, and the {@link Generation.Token} that
 * its listener hears.
 */
class StepAllocationTest {
  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final Path SMALL = Path.of("src/test/resources/goldens/llama3/model");
  private static final Llama.Limits LIMITS = new Llama.Limits(256, 64, 32, 32, 64);

  private static final long OF_A_STEP = 3000; // bytes
  private static final long OF_A_ROW = 120;

  @Test
  void aStepOnTheCpuMakesLittle() {
    try (Device device = CpuDevice.open(2)) {
      check(DEMO, device, 32, 40);
    }
  }

  @Test
  void aStepOnCudaMakesLittle() {
    try (Device device = TestCuda.open()) {
      check(SMALL, device, 16, 10); // the stand-in takes its time
    }
  }

  private static void check(Path folder, Device device, int many, int tokens) {
    Sampling sampled = new Sampling(0.8f, 20, 0.9f, 2);
    try (Llama model = Llama.load(folder, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      for (Sampling sampling : List.of(Sampling.GREEDY, sampled)) {
        for (boolean steered : new boolean[] {false, true}) {
          String what =
              "%s, temperature %s, steered: %s"
                  .formatted(device.description(), sampling.temperature(), steered);
          long eight = ofAStep(engine, requests(engine, 8, tokens, sampling, steered));
          long all = ofAStep(engine, requests(engine, many, tokens, sampling, steered));
          assertTrue(eight <= OF_A_STEP + 8 * OF_A_ROW, eight + " bytes: " + what);
          assertTrue(all <= OF_A_STEP + many * OF_A_ROW, all + " bytes: " + what);
          assertTrue(
              all - eight <= (many - 8) * OF_A_ROW, "%d after %d: %s".formatted(all, eight, what));
        }
      }
    }
  }

  /** Requests that go side by side, each with a plan of its own if they are steered. */
  private static List<Request> requests(
      Engine engine, int count, int tokens, Sampling sampling, boolean steered) {
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      Request request =
          Request.of(IntStream.range(3 + i, 9 + i).toArray())
              .with(sampling)
              .withMaxTokens(tokens)
              .withStopTokens(Set.of(1000)); // asked for at each token
      requests.add(steered ? request.with(plan(engine, i)) : request);
    }
    return requests;
  }

  private static SteeringPlan plan(Engine engine, int number) {
    Random random = new Random(number);
    float[] vector = new float[engine.model().config().dModel()];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) random.nextGaussian();
    }
    return SteeringPlan.of(Edit.add("blocks.1.hook_resid_post", vector, 0.01f));
  }

  /** Bytes that this thread allocates in a step, as most do: few are recorded anew. */
  private static long ofAStep(Engine engine, List<Request> requests) {
    int tokens = requests.getFirst().maxTokens();
    long[] at = new long[tokens + 1];
    List<Request> listening = new ArrayList<>(requests);
    int[] heard = {0};
    listening.set(
        0,
        requests
            .getFirst()
            .with(token -> at[++heard[0]] = THREADS.getCurrentThreadAllocatedBytes()));
    for (int run = 0; run < 2; run++) { // the first one records
      heard[0] = 0;
      engine.run(listening).forEach(Result::orThrow);
    }
    assertTrue(heard[0] == tokens, "a request stopped early");
    long[] steps = new long[tokens - 1];
    Arrays.setAll(steps, i -> at[i + 2] - at[i + 1]);
    Arrays.sort(steps);
    return steps[steps.length / 2];
  }
}
