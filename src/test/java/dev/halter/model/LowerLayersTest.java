package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.ScarceDevice;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.generation.Engine;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.LowerLayers.Parting;
import dev.halter.model.LowerLayers.Reach;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is known of lower layers, for how long, and whose pages it lies in. */
class LowerLayersTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final int PAGE = KvCache.PAGE;
  private static final Llama.Limits LIMITS = new Llama.Limits(128, 8, 4, 16, 4 * PAGE);

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 3, 1000).toArray();
  }

  private static SteeringPlan plan(int layer, int neuron) {
    return SteeringPlan.of(Edit.clamp(new Site(Site.Kind.POST, layer), neuron, 4));
  }

  private static Request request(int[] prompt, int layer, int neuron) {
    return Request.of(prompt).withMaxTokens(3).with(plan(layer, neuron));
  }

  private static Parting parting(int[] prompt, int layer) {
    return new Parting(new Beginning(prompt), layer, 0);
  }

  private static boolean waits(LowerLayers lower, Parting parting, Parting other) {
    return parting.gain(other) >= lower.worthWaiting(parting, 0);
  }

  private static Llama load(Device device) {
    return load(device, LIMITS);
  }

  private static Llama load(Device device, Llama.Limits limits) {
    return Llama.load(DEMO, device, DType.F32, limits);
  }

  @Test
  void theHighestBlockBelowAPlanIsWhereItBegins() {
    try (Device device = CpuDevice.open(2);
        Llama model = load(device, new Llama.Limits(128, 8, 4, 24, 4 * PAGE));
        Engine engine = new Engine(model)) {
      int[] prompt = tokens(3 * PAGE - 20, 1);
      LowerLayers lower = model.lower();
      assertEquals(Reach.NONE, lower.reach(parting(prompt, 3), 0));
      engine.run(request(prompt, 2, 1)).orThrow();
      assertEquals(Reach.NONE, lower.reach(parting(prompt, 1), 0));
      assertEquals(new Reach(2, prompt.length), lower.reach(parting(prompt, 2), 0));
      assertEquals(new Reach(2, prompt.length), lower.reach(parting(prompt, 3), 0));
      engine.run(request(prompt, 3, 1)).orThrow();
      assertEquals(new Reach(2, prompt.length), lower.reach(parting(prompt, 2), 0));
      assertEquals(new Reach(3, prompt.length), lower.reach(parting(prompt, 3), 0));

      int[] other = Arrays.copyOf(prompt, prompt.length);
      other[PAGE + 30]++;
      assertEquals(new Reach(3, PAGE + 30), lower.reach(parting(other, 3), 0));
      int few = prompt.length - KvCache.WORTH_SHARING;
      assertEquals(Reach.NONE, lower.reach(parting(prompt, 3), few), "not worth a step");
      assertEquals(Reach.NONE, lower.reach(parting(tokens(100, 2), 3), 0));
    }
  }

  @Test
  void itIsWorthWaitingForWhoeverReadsMoreThanIsKnown() {
    try (Device device = CpuDevice.open(2);
        Llama model = load(device);
        Engine engine = new Engine(model)) {
      int[] prompt = tokens(200, 1);
      LowerLayers lower = model.lower();
      Parting three = parting(prompt, 3);
      assertTrue(waits(lower, three, three));
      assertTrue(waits(lower, three, parting(prompt, 1)));
      assertFalse(waits(lower, parting(prompt, 1), three), "which begins above");
      assertFalse(waits(lower, three, Parting.NONE));
      assertFalse(waits(lower, Parting.NONE, three));
      assertFalse(waits(lower, three, parting(tokens(200, 2), 3)));
      engine.run(request(prompt, 2, 1)).orThrow();
      assertFalse(waits(lower, three, parting(prompt, 2)), "all of it is known");
      assertTrue(waits(lower, three, three), "a block more, of two hundred tokens");
    }
  }

  /**
   * Of prompts that differ in their last token alone, the first leaves all of their last page, and
   * the others what they read. One that parts from them earlier may have that page of the first.
   */
  @Test
  void aPageGivesOnlyWhatItHolds() {
    int[] prompt = tokens(PAGE + 40, 1);
    int[] other = prompt.clone();
    other[PAGE + 30] = 1001; // behind all of theirs
    try (Device device = CpuDevice.open(2);
        Llama model = load(device);
        Engine engine = new Engine(model);
        Engine apart = new Engine(model, false)) {
      for (int last : new int[] {90, 10, 50}) {
        int[] theirs = prompt.clone();
        theirs[theirs.length - 1] = last;
        engine.run(request(theirs, 3, 1)).orThrow();
      }
      assertEquals(new Reach(3, PAGE + 30), model.lower().reach(parting(other, 3), 0));
      Request asked = request(other, 3, 1).with(LogProbabilities.NONE.withPrompt(0));
      Result expected = apart.run(asked).orThrow();
      Result result = engine.run(asked).orThrow();
      assertEquals(expected.prompt(), result.prompt());
      assertArrayEquals(expected.tokens(), result.tokens());
    }
  }

  /** A quarter of the pages at most, and none that a sequence needs. */
  @Test
  void whatWasUnusedForLongestGoesFirstAndSequencesComeBefore() {
    try (Device device = CpuDevice.open(2);
        Llama model = load(device);
        Engine engine = new Engine(model)) {
      KvCache cache = model.cache();
      LowerLayers lower = model.lower();
      int[][] prompts = {tokens(2 * PAGE, 1), tokens(2 * PAGE, 2), tokens(2 * PAGE, 3)};
      Reach all = new Reach(3, 2 * PAGE);
      engine.run(request(prompts[0], 3, 1)).orThrow();
      engine.run(request(prompts[1], 3, 1)).orThrow();
      engine.run(request(prompts[0], 3, 2)).orThrow();
      assertEquals(all, lower.reach(parting(prompts[0], 3), 0));
      assertEquals(all, lower.reach(parting(prompts[1], 3), 0));
      engine.run(request(prompts[2], 3, 1)).orThrow(); // a fifth and a sixth page
      assertEquals(all, lower.reach(parting(prompts[0], 3), 0));
      assertEquals(Reach.NONE, lower.reach(parting(prompts[1], 3), 0));
      assertEquals(all, lower.reach(parting(prompts[2], 3), 0));
      assertEquals(LIMITS.pages(), cache.pagesFree());

      List<Integer> open = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        open.add(cache.open());
        assertTrue(cache.reserve(open.get(i), 4 * PAGE));
      }
      assertEquals(0, cache.pagesFree());
      assertEquals(Reach.NONE, lower.reach(parting(prompts[0], 3), 0));
      assertEquals(-1, cache.lend());
      open.forEach(cache::release);
      assertEquals(LIMITS.pages(), cache.pagesFree());
    }
  }

  /** A prompt longer than what may be held: its first pages stay, since the others need them. */
  @Test
  void aLongPromptKeepsItsFirstPages() {
    Llama.Limits few = new Llama.Limits(128, 8, 1, 8, 8 * PAGE);
    try (Device device = CpuDevice.open(2);
        Llama model = load(device, few);
        Engine engine = new Engine(model)) {
      int[] prompt = tokens(5 * PAGE, 1);
      int[] expected = engine.run(request(prompt, 3, 7)).orThrow().tokens();
      assertEquals(new Reach(3, 2 * PAGE), model.lower().reach(parting(prompt, 3), 0));
      engine.run(request(prompt, 3, 8)).orThrow();
      assertArrayEquals(expected, engine.run(request(prompt, 3, 7)).orThrow().tokens());
      assertEquals(few.pages(), model.cache().pagesFree());
    }
  }

  /** Without memory for residual streams all is read whole, and answers are the same. */
  @ParameterizedTest
  @ValueSource(longs = {128, PAGE})
  void whereThereIsNoMemoryNothingIsLeft(long rows) {
    int[] prompt = tokens(100, 1);
    long row = 4L * ModelConfig.read(DEMO).dModel();
    try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2));
        Llama model = load(device);
        Engine engine = new Engine(model);
        Engine apart = new Engine(model, false)) {
      device.refuseAll(rows * row);
      List<Request> requests =
          List.of(request(prompt, 3, 1), request(prompt, 3, 2), request(prompt, 2, 3));
      List<Result> expected = apart.run(requests);
      List<Result> results = engine.run(requests);
      for (int i = 0; i < requests.size(); i++) {
        assertArrayEquals(expected.get(i).orThrow().tokens(), results.get(i).orThrow().tokens());
      }
      assertEquals(Reach.NONE, model.lower().reach(parting(prompt, 3), 0));
      assertEquals(LIMITS.pages(), model.cache().pagesFree());
    }
  }
}
