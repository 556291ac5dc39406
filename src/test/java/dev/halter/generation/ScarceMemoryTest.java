package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.DType;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.ScarceDevice;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Capture;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Memory that runs out at any allocation: a clear error, and nothing is left of what was begun. */
class ScarceMemoryTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final Llama.Limits LIMITS = new Llama.Limits(16, 4, 4, 4, 64);

  private final ScarceDevice device = new ScarceDevice(CpuDevice.open(2));

  @AfterEach
  void close() {
    device.close();
  }

  @Test
  void aSamplerIsMadeWholeOrNotAtAll() {
    int allocations =
        device.assertNothingLeaks(
            () -> {
              try (Scope scope = device.scope()) {
                new Sampler(scope, 10, 2);
              }
            });
    assertEquals(3, allocations);
  }

  @Test
  void aCaptureThatDoesNotFitCostsItsRequestAlone() {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      Request plain = Request.of(new int[] {3, 4, 5}).withId("plain").withMaxTokens(3);
      int[] expected = engine.run(plain).orThrow().tokens();
      Site site = new Site(Site.Kind.RESID_POST, 0);
      Capture capture = new Capture(model.config(), List.of(site), 3);
      device.refuseNext();
      List<Result> results = engine.run(List.of(plain, plain.withId("reads").with(capture)));
      assertArrayEquals(expected, results.get(0).orThrow().tokens());
      assertInstanceOf(OutOfDeviceMemoryException.class, results.get(1).failure());
      assertEquals(LIMITS.sequences(), model.cache().sequencesFree());
      engine.run(plain.with(capture)).orThrow();
      assertNotEquals(0, capture.at(site, 2)[0]);
    }
  }

  @Test
  void anEngineIsMadeAndServesOrLeavesNothing() {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      Request plain = Request.of(new int[] {3, 4, 5}).withId("plain").withMaxTokens(3);
      int[] expected;
      try (Engine engine = new Engine(model)) {
        expected = engine.run(plain).orThrow().tokens();
      }
      SteeringPlan plan =
          SteeringPlan.parse(
              """
              {"interventions": [
                {"op": "head_scale", "site": "blocks.1.attn.hook_z", "heads": [0], "scale": 0},
                {"op": "neuron_clamp", "site": "blocks.0.mlp.hook_post", "neurons": [1, 2],
                 "value": 3}]}
              """,
              Path.of("."),
              model.config());
      device.assertNothingLeaks(
          () -> {
            try (Engine engine = new Engine(model)) {
              engine.run(List.of(plain.with(plan), plain)).forEach(Result::orThrow);
            } finally {
              assertEquals(LIMITS.sequences(), model.cache().sequencesFree());
              assertEquals(LIMITS.pages(), model.cache().pagesFree());
            }
          });
      try (Engine engine = new Engine(model)) {
        assertArrayEquals(expected, engine.run(plain).orThrow().tokens());
      }
    }
    assertEquals(0, device.buffers());
  }
}
