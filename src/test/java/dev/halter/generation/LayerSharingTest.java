package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.device.CountingDevice;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Plans that edit a prompt from a block on share what is below, and nothing else changes. */
class LayerSharingTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final int LAYERS = Demo.CONFIG.nLayers();
  private static final String LAST = "blocks." + (LAYERS - 1);
  private static final int VOCABULARY = 100;
  private static final Llama.Limits ROOMY = new Llama.Limits(512, 64, 16, 48, 3 * KvCache.PAGE);
  private static final Llama.Limits TIGHT = new Llama.Limits(40, 3, 2, 9, 3 * KvCache.PAGE);

  private static final LogProbabilities MANY =
      LogProbabilities.NONE.withTokens(IntStream.range(0, VOCABULARY).boxed().toList());

  private static List<Heard> run(Engine engine, List<Request> requests) {
    return Heard.run(engine, requests, MANY);
  }

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 3, VOCABULARY).toArray();
  }

  private static float[] vector(int width, int seed) {
    Random random = new Random(seed);
    float[] vector = new float[width];
    for (int i = 0; i < width; i++) {
      vector[i] = random.nextFloat() - 0.5f;
    }
    return vector;
  }

  private static Edit add(Llama model, Site.Kind kind, int layer, int seed) {
    return new Edit.Add(new Site(kind, layer), vector(model.config().dModel(), seed), 2);
  }

  /** Plans of all sites, in all layers of three, alone and together, here and there. */
  private static List<SteeringPlan> plans(Llama model) {
    SteeringPlan clamp = SteeringPlan.of(Edit.clamp("blocks.1.mlp.hook_pre", 5, 3));
    SteeringPlan early = SteeringPlan.of(add(model, Site.Kind.RESID_PRE, 1, 2));
    SteeringPlan late = SteeringPlan.of(add(model, Site.Kind.RESID_PRE, 2, 1));
    SteeringPlan heads = SteeringPlan.of(Edit.scaleHeads("blocks.2.attn.hook_z", 0, 1));
    SteeringPlan first = SteeringPlan.of(add(model, Site.Kind.RESID_POST, 0, 7));
    SteeringPlan nothing = SteeringPlan.of(Edit.clamp("blocks.0.mlp.hook_pre", 5, 3).scaled(0));
    return List.of(
        heads,
        late,
        SteeringPlan.of(add(model, Site.Kind.RESID_MID, 2, 3)),
        clamp,
        SteeringPlan.of(add(model, Site.Kind.RESID_POST, 1, 4)),
        early.then(late),
        nothing.then(heads).then(early.when(Trigger.GENERATION)),
        SteeringPlan.of(add(model, Site.Kind.MLP_OUT, 2, 5)).when(Trigger.PROMPT),
        first,
        late.when(Trigger.promptWindow(70, 400)),
        first.when(Trigger.LAST).then(late),
        heads.when(Trigger.promptPositions(3, 90)),
        clamp.when(Trigger.FROM_LAST),
        SteeringPlan.NONE);
  }

  private static List<Request> requests(Llama model) {
    int[] beginning = tokens(2 * KvCache.PAGE + 19, 1);
    List<SteeringPlan> plans = plans(model);
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < plans.size() + 6; i++) {
      int[] prompt = PrefixSharingTest.join(beginning, tokens(i % 5, i % 2));
      requests.add(
          Request.of(prompt).withId("r" + i).withMaxTokens(3).with(plans.get(i % plans.size())));
    }
    return requests;
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void resultsAreTheSameToTheBitAndFewerBlocksAreRun(Device opened) {
    CountingDevice device = new CountingDevice(opened);
    try (Golden golden = new Golden("qwen3")) {
      for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
        try (Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, limits);
            Engine apart = new Engine(model, false);
            Engine together = new Engine(model, true)) {
          device.blocks();
          List<Heard> expected = run(apart, requests(model));
          device.tokens();
          int all = device.blocks();
          List<Heard> first = run(together, requests(model));
          int read = device.tokens();
          int blocks = device.blocks();
          List<Heard> again = run(together, requests(model));
          Heard.assertSame(expected, first);
          Heard.assertSame(expected, again);
          double most = limits.equals(TIGHT) ? 0.9 : 0.7;
          assertTrue(blocks < most * all, blocks + " of " + all + " blocks run");
          assertTrue(blocks > 3.1 * read, blocks + " of all, " + read + " read from the first on");
          assertEquals(limits.pages(), model.cache().pagesFree());
          assertEquals(limits.sequences(), model.cache().sequencesFree());
        }
      }
    }
  }

  /** The demo model with an engine that shares and one that does not. */
  private record Pair(CountingDevice device, Llama model, Engine apart, Engine together)
      implements AutoCloseable {
    static Pair open(Llama.Limits limits) {
      CountingDevice device = new CountingDevice(CpuDevice.open(2));
      Llama model = Llama.load(DEMO, device, DType.F32, limits);
      return new Pair(device, model, new Engine(model, false), new Engine(model, true));
    }

    /** Asserts what a request costs, and that it answers as it does alone. */
    void assertBlocks(int expected, Request request) {
      List<Heard> alone = run(apart, List.of(request));
      device.blocks();
      Heard.assertSame(alone, run(together, List.of(request)));
      assertEquals(expected, device.blocks(), request.id());
    }

    @Override
    public void close() {
      apart.close();
      together.close();
      model.close();
      device.close();
    }
  }

  @Test
  void aPromptBeginsAtTheBlockWherePlansPart() {
    try (Pair pair = Pair.open(ROOMY)) {
      int[] prompt = tokens(100, 2);
      Request request = Request.of(prompt).withMaxTokens(1);
      for (int layer = 1; layer < LAYERS; layer++) {
        Request first =
            request.with(SteeringPlan.of(add(pair.model, Site.Kind.RESID_PRE, layer, 1)));
        pair.assertBlocks(100 * (LAYERS - layer + 1), first.withId("from one block lower"));
        Edit clamp = Edit.clamp("blocks." + layer + ".mlp.hook_post", 3, 9);
        pair.assertBlocks(
            100 * (LAYERS - layer), request.withId("other edits").with(SteeringPlan.of(clamp)));
      }
      Edit last = Edit.clamp(LAST + ".mlp.hook_post", 7, 5);
      SteeringPlan both = SteeringPlan.of(Edit.clamp("blocks.1.mlp.hook_post", 7, 5), last);
      pair.assertBlocks(100 * (LAYERS - 1), request.withId("the lower of two").with(both));
      Request first = request.with(SteeringPlan.of(Edit.clamp("blocks.0.mlp.hook_post", 7, 5)));
      pair.assertBlocks(100 * LAYERS, first.withId("from the first block on"));
      pair.assertBlocks(
          100 + 20 * LAYERS,
          Request.of(PrefixSharingTest.join(prompt, tokens(20, 8)))
              .withMaxTokens(1)
              .withId("a longer prompt")
              .with(SteeringPlan.of(last)));
    }
  }

  @Test
  void whatIsBeforeTheFirstEditIsSharedInAllLayers() {
    try (Pair pair = Pair.open(ROOMY)) {
      Request request = Request.of(tokens(150, 2)).withMaxTokens(1);
      SteeringPlan heads = SteeringPlan.of(Edit.scaleHeads(LAST + ".attn.hook_z", 0, 1));
      SteeringPlan clamp = SteeringPlan.of(Edit.clamp(LAST + ".mlp.hook_post", 3, 9));
      Trigger from = Trigger.promptWindow(70, 400);
      pair.assertBlocks(150 * LAYERS, request.with(heads.when(from)));
      pair.assertBlocks(86, request.with(clamp.when(from)).withId("in all layers up to there"));
      // Of the first page nothing was left, since who acts later has it in all layers.
      pair.assertBlocks(150 * LAYERS, request.with(heads).withId("from the first"));
      pair.assertBlocks(150, request.with(clamp).withId("from the first, by another"));
    }
  }

  @Test
  void capturesReadEveryLayerAndLogProbabilitiesOfPromptsDoNot() {
    try (Pair pair = Pair.open(ROOMY)) {
      int[] prompt = tokens(90, 3);
      Request request =
          Request.of(prompt)
              .withMaxTokens(0)
              .with(SteeringPlan.of(Edit.scaleHeads(LAST + ".attn.hook_z", 0, 1)));
      run(pair.together, List.of(request));
      Site low = new Site(Site.Kind.RESID_POST, 0);
      List<float[]> captured = new ArrayList<>();
      for (Engine engine : List.of(pair.apart, pair.together)) {
        Capture capture = new Capture(pair.model.config(), Set.of(low), prompt.length);
        pair.device.blocks();
        engine.run(request.with(capture)).orThrow();
        assertEquals(90 * LAYERS, pair.device.blocks());
        captured.add(capture.values().get(low));
      }
      assertArrayEquals(captured.getFirst(), captured.getLast());
      LogProbabilities ofPrompt = LogProbabilities.NONE.withPrompt(2);
      Result alone = pair.apart.run(request.with(ofPrompt)).orThrow();
      pair.device.blocks();
      Result shared = pair.together.run(request.with(ofPrompt)).orThrow();
      assertEquals(90, pair.device.blocks());
      assertEquals(90, shared.prompt().size());
      assertEquals(alone.prompt(), shared.prompt());
    }
  }

  @Test
  void lowerLayersAreSharedAmongRequestsOfOneSaltAlone() {
    try (Pair pair = Pair.open(ROOMY)) {
      Request request = Request.of(tokens(100, 2)).withMaxTokens(1);
      List<SteeringPlan> plans =
          IntStream.range(0, 3)
              .mapToObj(i -> SteeringPlan.of(Edit.clamp(LAST + ".mlp.hook_post", i, 9)))
              .toList();
      pair.assertBlocks(100 * LAYERS, request.with(plans.get(0)).withCacheSalt("a"));
      pair.assertBlocks(100 * LAYERS, request.with(plans.get(1)).withCacheSalt("b"));
      pair.assertBlocks(100 * LAYERS, request.with(plans.get(2)));
      pair.assertBlocks(100, request.with(plans.get(1)).withCacheSalt("a"));
      pair.assertBlocks(100, request.with(plans.get(2)).withCacheSalt("b"));
      pair.assertBlocks(100, request.with(plans.get(1)));
    }
  }

  /** Of plans that come together one reads, in steps of any size, and the others wait for it. */
  @ParameterizedTest
  @ValueSource(ints = {33, 64, 512})
  void thoseThatComeTogetherWaitForTheFirst(int rows) {
    try (Pair pair = Pair.open(new Llama.Limits(rows, 16, 16, 48, 3 * KvCache.PAGE))) {
      int[] prompt = tokens(2 * KvCache.PAGE + 22, 4);
      int above = LAYERS - 2;
      List<Request> requests = new ArrayList<>();
      for (int i = 0; i < 16; i++) {
        Edit clamp = Edit.clamp("blocks.2.mlp.hook_post", i, 9);
        requests.add(
            Request.of(prompt).withId("r" + i).withMaxTokens(1).with(SteeringPlan.of(clamp)));
      }
      List<Heard> alone = run(pair.apart, requests);
      assertEquals(16 * 150 * LAYERS, pair.device.blocks());
      assertFalse(Arrays.equals(alone.get(0).rows().getFirst(), alone.get(1).rows().getFirst()));
      Heard.assertSame(alone, run(pair.together, requests));
      // The ends of a prompt that a step leaves over are too few for a step of their own.
      assertTrue(pair.device.blocks() <= 150 * (LAYERS + 15 * above) + 15 * above * 32);
    }
  }

  @Test
  void metricsTellWhichBlocksWereNotRun() throws Exception {
    try (Pair pair = Pair.open(ROOMY);
        AsyncEngine engine = new AsyncEngine(pair.together)) {
      for (int i = 0; i < 3; i++) {
        Edit clamp = Edit.clamp(LAST + ".mlp.hook_post", i, 9);
        Request request = Request.of(tokens(100, 2)).withMaxTokens(2).with(SteeringPlan.of(clamp));
        engine.submit(request).result().join();
        assertEquals(i * 100L * (LAYERS - 1), engine.metrics().sharedLayers());
      }
      assertEquals(300, engine.metrics().promptTokens());
      assertEquals(0, engine.metrics().sharedTokens());
    }
  }
}
