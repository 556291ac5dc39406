package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.CountingDevice;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Beginning;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Beginnings that requests have in common are read once, and nothing else changes. */
class PrefixSharingTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final int VOCABULARY = 128;
  private static final Llama.Limits ROOMY = new Llama.Limits(256, 64, 16, 48, 3 * KvCache.PAGE);
  private static final Llama.Limits TIGHT = new Llama.Limits(40, 3, 4, 7, 3 * KvCache.PAGE);
  private static final Site RESIDUAL = new Site(Site.Kind.RESID_POST, 0);

  private static List<Heard> run(Engine engine, List<Request> requests) {
    return Heard.run(engine, requests, EngineTest.everyToken(engine.model()));
  }

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 3, VOCABULARY).toArray();
  }

  static int[] join(int[] a, int[] b) {
    int[] both = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  private static SteeringPlan plan(Trigger trigger, float scale) {
    float[] vector = new float[48];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) Math.cos(i);
    }
    return SteeringPlan.of(new Edit.Add(RESIDUAL, vector, scale)).when(trigger);
  }

  /**
   * One beginning of more than two pages, ends of several lengths, plans that act here and there.
   */
  private static List<Request> requests() {
    int[] beginning = tokens(2 * KvCache.PAGE + 19, 1);
    List<SteeringPlan> plans =
        List.of(
            SteeringPlan.NONE,
            plan(Trigger.LAST, 3),
            plan(Trigger.FROM_LAST, 2),
            plan(Trigger.GENERATION, 4),
            plan(Trigger.promptPositions(70), 5),
            plan(Trigger.ALWAYS, 1));
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < 18; i++) {
      int[] prompt = join(beginning, tokens(i % 5, i));
      requests.add(
          Request.of(prompt).withId("r" + i).withMaxTokens(4).with(plans.get(i % plans.size())));
    }
    requests.add(Request.of(tokens(20, 77)).withId("other").withMaxTokens(4));
    requests.add(Request.of(tokens(20, 77)).withId("the same").withMaxTokens(6));
    return requests;
  }

  private static Llama load(Golden golden, Device device, Llama.Limits limits) {
    return Llama.load(golden.folder.resolve("model"), device, DType.F32, limits);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void resultsAreTheSameToTheBitAndFewerTokensAreRead(Device opened) {
    CountingDevice device = new CountingDevice(opened);
    try (Golden golden = new Golden("llama3")) {
      for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
        try (Llama model = load(golden, device, limits);
            Engine apart = new Engine(model, false);
            Engine together = new Engine(model, true)) {
          List<Heard> expected = run(apart, requests());
          int all = device.tokens();
          List<Heard> first = run(together, requests());
          int fewer = device.tokens();
          List<Heard> again = run(together, requests());
          Heard.assertSame(expected, first);
          Heard.assertSame(expected, again);
          assertTrue(fewer < 0.45 * all, fewer + " of " + all + " tokens read");
          assertTrue(limits.equals(TIGHT) || device.tokens() <= fewer, "what is known stays known");
          assertEquals(limits.pages(), model.cache().pagesFree());
          assertEquals(limits.sequences(), model.cache().sequencesFree());
        }
      }
    }
  }

  @Test
  void whatEditsHaveReachedIsSharedWithThoseWhoHaveTheSame() {
    try (Golden golden = new Golden("llama3");
        CountingDevice device = new CountingDevice(CpuDevice.open(2));
        Llama model = load(golden, device, ROOMY);
        Engine engine = new Engine(model);
        Engine other = new Engine(model)) {
      int[] prompt = tokens(100, 2);
      Request plain = Request.of(prompt).withMaxTokens(1);
      float[] before = run(engine, List.of(plain)).getFirst().rows().getFirst();
      assertEquals(100, device.tokens());
      Request steered = plain.with(plan(Trigger.PROMPT, 6));
      float[] after = run(engine, List.of(steered)).getFirst().rows().getFirst();
      assertEquals(100, device.tokens(), "keys and values are others");
      assertFalse(Arrays.equals(before, after));
      assertArrayEquals(before, run(engine, List.of(plain)).getFirst().rows().getFirst());
      assertEquals(1, device.tokens(), "the last token alone is read again");

      Request same = plain.with(plan(Trigger.ALWAYS, 6)); // by another plan, all its own
      assertArrayEquals(after, run(engine, List.of(same)).getFirst().rows().getFirst());
      assertEquals(36, device.tokens(), "a page is shared");
      run(engine, List.of(plain.with(plan(Trigger.ALWAYS, 5))));
      assertEquals(100, device.tokens());
      run(engine, List.of(plain.with(plan(Trigger.promptPositions(60), 6))));
      assertEquals(40, device.tokens(), "from where the plan acts");
      run(other, List.of(same));
      assertEquals(100, device.tokens(), "whose reports are another engine's");
    }
  }

  private static float[] vector(int seed) {
    float[] vector = new float[48];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) Math.cos(seed * i);
    }
    return vector;
  }

  /** Plans that begin alike and differ: in order, in what they do later, in what does nothing. */
  private static List<SteeringPlan> equalBeginnings() {
    SteeringPlan add = SteeringPlan.of(new Edit.Add(RESIDUAL, vector(3), 2));
    SteeringPlan heads =
        SteeringPlan.of(Edit.scaleHeads("blocks.1.attn.hook_z", 0.5, 1, 2))
            .when(Trigger.promptWindow(30, 200).or(Trigger.GENERATION));
    SteeringPlan clamp =
        SteeringPlan.of(Edit.clamp("blocks.0.mlp.hook_pre", 5, 3)).when(Trigger.FROM_LAST);
    SteeringPlan nothing =
        SteeringPlan.of(
            Edit.clamp("blocks.1.mlp.hook_pre", 5, 3).scaled(0),
            new Edit.Add(RESIDUAL, vector(5), 0),
            Edit.scaleHeads("blocks.0.attn.hook_z", 1, 0));
    return List.of(
        add.then(heads),
        heads.then(add).named("turned"),
        clamp.then(heads).then(nothing).then(add),
        add.then(nothing).then(clamp).then(heads.when(Trigger.promptWindow(30, 200))),
        add.then(add).then(heads),
        add.when(Trigger.promptWindow(0, 64))
            .then(add.when(Trigger.promptWindow(64, 200)))
            .then(heads),
        nothing,
        SteeringPlan.NONE);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void reportsAreRightForPagesThatOthersHaveRead(Device opened) {
    CountingDevice device = new CountingDevice(opened);
    int[] beginning = tokens(2 * KvCache.PAGE + 40, 9);
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < 24; i++) {
      requests.add(
          Request.of(join(beginning, tokens(1 + i % 3, 50 + i)))
              .withId("r" + i)
              .withMaxTokens(3)
              .with(equalBeginnings().get(i % 8)));
    }
    try (Golden golden = new Golden("llama3")) {
      for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
        try (Llama model = load(golden, device, limits);
            Engine apart = new Engine(model, false);
            Engine together = new Engine(model, true)) {
          List<Heard> expected = run(apart, requests);
          int all = device.tokens();
          Heard.assertSame(expected, run(together, requests));
          int fewer = device.tokens();
          assertTrue(fewer < 0.6 * all, fewer + " of " + all + " tokens read");
          Heard.assertSame(expected, run(together, requests));
          // Four of the plans are alike up to the end, and two are as none is.
          Heard first = expected.getFirst();
          assertTrue(first.result().report().interventions().getFirst().tokens() > 160);
          assertFalse(Arrays.equals(first.rows().getFirst(), expected.get(7).rows().getFirst()));
        }
      }
    }
  }

  @Test
  void aBeginningIsSharedAmongRequestsOfOneSaltAlone() {
    CountingDevice device = new CountingDevice(CpuDevice.open(2));
    int[] prompt = tokens(2 * KvCache.PAGE + 19, 1);
    Request request = Request.of(prompt).withMaxTokens(4).with(plan(Trigger.LAST, 3));
    try (Golden golden = new Golden("llama3");
        Llama model = load(golden, device, ROOMY);
        Engine engine = new Engine(model)) {
      int[] answer = engine.run(request).orThrow().tokens();
      int whole = device.tokens();
      for (String salt : new String[] {"a", "b"}) {
        assertArrayEquals(answer, engine.run(request.withCacheSalt(salt)).orThrow().tokens());
        assertEquals(whole, device.tokens(), "nobody has read it with this salt");
      }
      for (String salt : new String[] {"a", null, "b"}) {
        assertArrayEquals(answer, engine.run(request.withCacheSalt(salt)).orThrow().tokens());
        assertTrue(device.tokens() < whole / 2, "salt " + salt);
      }
    }
  }

  @Test
  void captureReadsEveryTokenOfAKnownPrompt() {
    try (Golden golden = new Golden("llama3");
        Device device = CpuDevice.open(2);
        Llama model = load(golden, device, ROOMY);
        Engine engine = new Engine(model)) {
      int[] prompt = tokens(90, 3);
      float[] before = captured(engine, prompt);
      run(engine, List.of(Request.of(prompt).withMaxTokens(2)));
      assertTrue(model.cache().known(new Beginning(prompt)) >= 64);
      assertArrayEquals(before, captured(engine, prompt));
    }
  }

  private static float[] captured(Engine engine, int[] prompt) {
    Capture capture = new Capture(engine.model().config(), Set.of(RESIDUAL), prompt.length);
    engine.run(Request.of(prompt).withMaxTokens(0).with(capture)).orThrow();
    return capture.values().get(RESIDUAL);
  }

  /** Of prompts that come together the first reads what they have in common. */
  @Test
  void thoseThatComeTogetherWaitForTheFirst() {
    try (Golden golden = new Golden("llama3");
        CountingDevice device = new CountingDevice(CpuDevice.open(2));
        Llama model = load(golden, device, ROOMY);
        Engine engine = new Engine(model)) {
      int[] prompt = tokens(120, 4);
      List<Request> requests = new ArrayList<>();
      for (int i = 0; i < 16; i++) {
        requests.add(
            Request.of(prompt).withId("r" + i).withMaxTokens(1).with(plan(Trigger.LAST, i + 1)));
      }
      run(engine, requests);
      assertEquals(120 + 15, device.tokens());
    }
  }
}
