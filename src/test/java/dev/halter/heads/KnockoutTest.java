package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.evaluation.Arithmetic;
import dev.halter.generation.Engine;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.heads.Knockout.Accuracy;
import dev.halter.heads.Knockout.Mode;
import dev.halter.heads.Knockout.Setting;
import dev.halter.model.Capture;
import dev.halter.model.Head;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Heads taken out, beside transformers with hooks, and what it does to the demo model. */
class KnockoutTest {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  private static int[] ints(JsonNode list) {
    int[] values = new int[list.size()];
    Arrays.setAll(values, i -> list.get(i).asInt());
    return values;
  }

  /** tools/goldens/knockout.py; the script checks that every mode changes the logits. */
  @ParameterizedTest
  @ValueSource(strings = {"llama3", "llama-bias", "qwen3"})
  void everyModeEqualsHooks(String name) throws IOException {
    Path folder = Path.of("src/test/resources/goldens", name);
    JsonNode golden = new ObjectMapper().readTree(folder.resolve("knockout.json").toFile());
    int[] question = ints(golden.get("question"));
    List<int[]> sources = new ArrayList<>();
    golden.get("sources").forEach(source -> sources.add(ints(source)));
    Llama.Limits limits = new Llama.Limits(64, 64, 8, 8 * KvCache.pagesFor(64), 64);
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(folder.resolve("model"), device, DType.F32, limits);
        Engine engine = new Engine(model)) {
      List<Head> heads = new ArrayList<>();
      golden.get("heads").forEach(head -> heads.add(Head.parse(head.asText(), model.config())));
      JsonNode logits = golden.get("logits");
      assertClose(logits.get("intact"), last(engine, question, SteeringPlan.NONE));
      Setting zero = new Setting(Mode.ZERO, Reach.ALL, List.of(), 0);
      assertClose(logits.get("zero_all"), without(engine, zero, heads, question));
      Setting mean = new Setting(Mode.MEAN, Reach.ALL, sources, 0);
      assertClose(logits.get("mean_all"), without(engine, mean, heads, question));
      Setting meanOfEnds = new Setting(Mode.MEAN, Reach.ANSWER, sources, 0);
      assertClose(logits.get("mean_end"), without(engine, meanOfEnds, heads, question));
      // Question 0 stands for source 0, so that of two sources it takes the second.
      Setting resample = new Setting(Mode.RESAMPLE, Reach.ANSWER, sources, 5);
      assertClose(logits.get("resample_end"), without(engine, resample, heads, question));
    }
  }

  private static float[] without(Engine engine, Setting setting, List<Head> heads, int[] question) {
    return last(engine, question, new Knockout(engine, setting).plan(heads, 0));
  }

  private static float[] last(Engine engine, int[] prompt, SteeringPlan plan) {
    Capture capture = new Capture(engine.model().config(), List.of(LOGITS), prompt.length);
    engine.run(Request.of(prompt).withId("q").withMaxTokens(0).with(plan).with(capture)).orThrow();
    float[] logits = capture.values().get(LOGITS);
    int vocabulary = logits.length / prompt.length;
    return Arrays.copyOfRange(logits, logits.length - vocabulary, logits.length);
  }

  private static void assertClose(JsonNode expected, float[] actual) {
    assertEquals(expected.size(), actual.length);
    double largest = 0;
    for (JsonNode value : expected) {
      largest = Math.max(largest, Math.abs(value.asDouble()));
    }
    for (int i = 0; i < actual.length; i++) {
      assertEquals(expected.get(i).asDouble(), actual[i], 2e-5 * largest, "token " + i);
    }
  }

  /** The claim in small: what path patching finds carries the sums, and other heads do not. */
  @Test
  void headsFoundByPathPatchingCarryTheSumsAndRandomOnesDoNot() {
    Path demo = Path.of("src/main/models/demo");
    try (LanguageModel model =
        LanguageModel.at(demo)
            .device("cpu")
            .dtype("f32")
            .threads(2)
            .context(128)
            .maxBatch(64)
            .open()) {
      Arithmetic arithmetic = Arithmetic.read(demo.resolve("tasks/arithmetic.json"));
      List<Arithmetic.Example> examples = arithmetic.examples(List.of("+", "-", "*"), 1, 9, 1);
      List<Pair> pairs =
          Arithmetic.pairs(model, examples, new Arithmetic.Wanted(60, true, true)).pairs();
      Effects effects =
          PathPatching.of(model.llama(), pairs, PathPatching.Variant.RECOMPUTE, false, done -> {});
      List<Head> order = new ArrayList<>(Head.all(model.config()));
      order.sort(Comparator.comparingDouble(head -> effects.of(head).delta()));
      List<Head> found = order.subList(0, 3);
      List<Question> sums = pairs.stream().map(pair -> pair.question("sums")).toList();
      List<int[]> sources = pairs.stream().map(Pair::reference).toList();
      for (Mode mode : Mode.values()) {
        Reach reach = mode == Mode.RESAMPLE ? Reach.ANSWER : Reach.ALL;
        Knockout knockout = new Knockout(model.engine(), new Setting(mode, reach, sources, 3));
        Accuracy accuracy = knockout.run(found, 4, sums, count -> {}).getFirst();
        assertEquals(1, accuracy.intact());
        assertTrue(accuracy.without() < 0.5, mode + " " + accuracy.without());
        assertEquals(4, accuracy.random().length);
        assertTrue(accuracy.randomMean() > 0.8, mode + " " + accuracy.randomMean());
      }
    }
  }

  @Test
  void drawsAreOtherHeadsAndTheSeedChoosesThem() {
    Path folder = Path.of("src/test/resources/goldens/llama3/model");
    Llama.Limits limits = new Llama.Limits(64, 64, 64, 64, 64);
    try (Device device = CpuDevice.open(1);
        Llama model = Llama.load(folder, device, DType.F32, limits);
        Engine engine = new Engine(model)) {
      List<Head> heads = List.of(new Head(0, 1), new Head(2, 5));
      List<List<Head>> one = draws(engine, heads, 1);
      assertEquals(one, draws(engine, heads, 1));
      assertNotEquals(one, draws(engine, heads, 2));
      for (List<Head> draw : one) {
        assertEquals(2, Set.copyOf(draw).size());
        assertTrue(draw.stream().noneMatch(heads::contains), draw.toString());
      }
      List<Head> most = Head.all(model.config()).subList(0, 10);
      assertThrows(IllegalArgumentException.class, () -> draws(engine, most, 1));
    }
    assertThrows(
        IllegalArgumentException.class,
        () -> new Setting(Mode.RESAMPLE, Reach.ALL, List.of(new int[1], new int[1]), 0));
    assertThrows(
        IllegalArgumentException.class,
        () -> new Setting(Mode.MEAN, Reach.ALL, List.of(new int[1]), 0));
  }

  private static List<List<Head>> draws(Engine engine, List<Head> heads, long seed) {
    Setting setting = new Setting(Mode.ZERO, Reach.ALL, List.of(), seed);
    return new Knockout(engine, setting).randomHeads(heads, 5);
  }
}
