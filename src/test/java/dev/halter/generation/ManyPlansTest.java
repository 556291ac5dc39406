package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.SameBits;
import dev.halter.device.ScarceDevice;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Ever new plans through one engine: each acts as it does alone, and none is left behind. */
class ManyPlansTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final Llama.Limits LIMITS = new Llama.Limits(64, 16, 16, 16, 64);
  private static final int D = 48;
  private static final int LAYERS = 2;
  private static final long IDLE = 256 * 3000; // bytes: as much as about 250 plans hold
  private static final int WARM = 320; // more plans than that

  static Stream<Arguments> devices() {
    return TestCuda.REAL
        ? Stream.of(Arguments.of(TestCuda.open(), 10_000))
        : Stream.of(Arguments.of(CpuDevice.open(2), 10_000), Arguments.of(TestCuda.open(), 500));
  }

  /** Plans that differ in values, sites, and in the tokens that they act on. */
  private static SteeringPlan plan(int number) {
    Random random = new Random(number);
    float[] vector = new float[D];
    for (int i = 0; i < D; i++) {
      vector[i] = (float) random.nextGaussian();
    }
    int layer = number % LAYERS;
    SteeringPlan plan =
        SteeringPlan.of(
            Edit.add("blocks." + layer + ".hook_resid_post", vector, 1),
            Edit.scaleHeads("blocks." + (LAYERS - 1 - layer) + ".attn.hook_z", 2, number % 6),
            Edit.clamp("blocks.0.mlp.hook_post", number % 8, number));
    return number % 3 == 0 ? plan.when(Trigger.FROM_LAST) : plan;
  }

  private static Request request(int number) {
    return Request.of(new int[] {1 + number % 5, 7, 9}).withId("" + number).withMaxTokens(3);
  }

  @ParameterizedTest
  @MethodSource("devices")
  void actAsAloneAndLeaveNothing(Device plain, int plans) {
    try (ScarceDevice device = new ScarceDevice(plain)) {
      try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
        Map<Integer, float[]> sampled = new LinkedHashMap<>();
        try (Engine engine = new Engine(model, true, IDLE)) {
          long[] peak = new long[2]; // bytes while warming up, and after
          int[] buffers = new int[2];
          engine.run(
              IntStream.range(0, plans)
                  .mapToObj(
                      i -> {
                        Request steered = request(i).with(plan(i));
                        return i % 97 == 0
                            ? steered
                                .with(EngineTest.everyToken(model))
                                .with(token -> sampled.put(i, EngineTest.row(token.alternatives())))
                            : steered;
                      })
                  .iterator(),
              result -> {
                int number = Integer.parseInt(result.request().id());
                assertEquals(3, result.orThrow().tokens().length);
                assertEquals(
                    number % 3 == 0 ? 3 : 5, result.report().interventions().getFirst().tokens());
                int phase = number < WARM ? 0 : 1;
                peak[phase] = Math.max(peak[phase], device.bytes());
                buffers[phase] = Math.max(buffers[phase], device.buffers());
              });
          assertTrue(buffers[1] <= buffers[0] + 16, Arrays.toString(buffers));
          assertTrue(peak[1] <= peak[0] + 16 * 4 * D, Arrays.toString(peak));
        }
        assertEquals((plans + 96) / 97, sampled.size());
        sampled.forEach(
            (number, row) -> {
              float[] alone = alone(model, request(number).with(plan(number)));
              SameBits.assertSame(alone, row, SameResults.BOUND, "plan " + number);
              assertFalse(Arrays.equals(row, alone(model, request(number))), "no effect");
            });
      }
      assertEquals(0, device.buffers());
    }
  }

  /** The log-probabilities at the last token, from an engine that knows no other plan. */
  private static float[] alone(Llama model, Request request) {
    try (Engine engine = new Engine(model)) {
      Result result = engine.run(request.with(EngineTest.everyToken(model))).orThrow();
      return EngineTest.row(result.alternatives().getLast());
    }
  }
}
