package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.model.Capture;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.sparse.Code;
import dev.halter.sparse.CodingPlan;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import dev.halter.sparse.Solver;
import dev.halter.sparse.SparseCoder;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.BiFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** remove_concepts in plans, over a model of 3 layers and d_model 48. */
class RemoveConceptsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final ModelConfig CONFIG = ModelConfig.read(MODEL);
  private static final Llama.Limits LIMITS = new Llama.Limits(128, 16, 8, 16, 128);
  private static final int D = 48;
  private static final int ATOMS = 80;
  private static final Site SITE = new Site(Site.Kind.RESID_POST, 1);
  private static final String REMOVED =
      "\"remove\": [\"c0\", \"c1\", \"c2\", \"c3\", \"c4\", \"c5\","
          + " \"c6\", \"c7\", \"c8\", \"c9\", \"c10\", \"c11\", \"c12\", \"c13\", \"c14\", \"c15\"]";

  @TempDir static Path folder;

  @BeforeAll
  static void writeDictionary() {
    Random random = new Random(5);
    StringBuilder names = new StringBuilder();
    for (int i = 0; i < ATOMS; i++) {
      names.append(i == 0 ? "[" : ",").append("\"c").append(i).append('"');
    }
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            folder.resolve("d.safetensors"),
            Map.of("names", names + "]"),
            List.of(
                new TensorSpec("atoms.1", DType.F32, ATOMS, D),
                new TensorSpec("atoms.2", DType.F32, ATOMS, D)))) {
      for (int layer = 1; layer <= 2; layer++) {
        float[] atoms = new float[ATOMS * D];
        for (int i = 0; i < atoms.length; i++) {
          atoms[i] = (float) random.nextGaussian();
        }
        out.write("atoms." + layer, atoms);
      }
    }
  }

  private static SteeringPlan plan(String more) {
    String json =
        "{\"interventions\": [{\"op\": \"remove_concepts\", \"dictionary\": \"d.safetensors\", "
            + more
            + "}]}";
    return SteeringPlan.parse(json, folder, CONFIG);
  }

  private static Request request(int seed, int length, SteeringPlan plan) {
    int[] prompt = new Random(seed).ints(length, 3, CONFIG.vocabularySize()).toArray();
    return Request.of(prompt)
        .withId("r" + seed)
        .withMaxTokens(5)
        .with(plan)
        .with(new Capture(CONFIG, Set.of(SITE), length));
  }

  private static float[] values(Request request) {
    return request.capture().values().get(SITE);
  }

  /** Of the dictionary of layer 1. */
  private static <T> T withCoder(Solver solver, BiFunction<Dictionary, SparseCoder, T> use) {
    try (Device device = CpuDevice.open(1);
        DictionaryFile file = DictionaryFile.open(folder.resolve("d.safetensors"));
        Dictionary dictionary = file.load(device, 1);
        SparseCoder coder =
            new SparseCoder(dictionary, solver, CodingPlan.of(dictionary, solver, 16, 16))) {
      return use.apply(dictionary, coder);
    }
  }

  /** z − strength · Σ c_i v_i over the first 16 atoms, for each row. */
  private static float[] reference(float[] z, Solver solver, float strength) {
    return withCoder(
        solver,
        (dictionary, coder) -> {
          float[] result = z.clone();
          List<Code> codes = coder.solve(z);
          for (int row = 0; row < codes.size(); row++) {
            Code code = codes.get(row);
            for (int i = 0; i < code.support().length; i++) {
              int atom = code.support()[i];
              if (atom < 16) {
                float[] unit = dictionary.unit(atom);
                double c = strength * code.coefficients()[i] * dictionary.norm(atom);
                for (int j = 0; j < D; j++) {
                  result[row * D + j] -= (float) (c * unit[j]);
                }
              }
            }
          }
          return result;
        });
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatTheCodeHasOfTheRemovedConceptsIsSubtracted(Device device) {
    String net = "\"layers\": [1, 1], \"alpha\": 0.1, \"strength\": 0.5, " + REMOVED;
    String omp = "\"layers\": [1, 1], \"solver\": \"omp\", \"k\": 6, " + REMOVED;
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      List<Request> together =
          List.of(
              request(1, 9, SteeringPlan.NONE),
              request(1, 9, plan(net)),
              request(2, 30, SteeringPlan.NONE),
              request(2, 30, plan(omp)));
      List<Result> results = engine.run(together);
      results.forEach(result -> result.orThrow());
      assertRemoved(together.get(0), together.get(1), new Solver.ElasticNet(0.1, 0.95), 0.5f);
      assertRemoved(together.get(2), together.get(3), new Solver.Omp(6, 0), 1);
      assertFalse(
          Arrays.equals(results.get(2).tokens(), results.get(3).tokens())
              && Arrays.equals(
                  results.get(2).logProbabilities(), results.get(3).logProbabilities()),
          "generation goes on as if nothing had been removed");

      for (int i = 1; i < 4; i += 2) {
        SteeringReport.Entry entry = results.get(i).report().interventions().getFirst();
        int length = together.get(i).prompt().length;
        // The last generated token is not fed back.
        assertEquals(length + results.get(i).tokens().length - 1, entry.tokens());
        assertTrue(entry.meanChange() > 0);
        assertNotNull(entry.concepts());
        assertEquals(entry.tokens(), entry.concepts().solved());
        assertTrue(entry.concepts().worstKkt() < 1e-3);
        assertFalse(entry.concepts().removed().isEmpty());
        for (SteeringReport.Removed removed : entry.concepts().removed()) {
          assertTrue(Integer.parseInt(removed.name().substring(1)) < 16, removed.toString());
        }
      }

      // Alone as in the batch.
      for (Request request : together) {
        Request alone = request.with(new Capture(CONFIG, Set.of(SITE), request.prompt().length));
        Result result = engine.run(alone).orThrow();
        assertArrayEquals(values(request), values(alone), 1e-5f);
        assertArrayEquals(
            results.get(together.indexOf(request)).tokens(), result.tokens(), request.id());
      }
    }
  }

  private static void assertRemoved(Request plain, Request steered, Solver solver, float strength) {
    float[] before = values(plain);
    float[] expected = reference(before, solver, strength);
    assertFalse(Arrays.equals(before, expected), "nothing is to be removed");
    assertArrayEquals(expected, values(steered), 2e-4f);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void atThePromptsEndOneCodeServesAllThatFollows(Device device) {
    String once = "\"layers\": [1, 1], \"solver\": \"omp\", \"k\": 6, \"solve\": \"prompt_end\", ";
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      Request plain = request(3, 12, SteeringPlan.NONE);
      Request steered = request(3, 12, plan(once + REMOVED));
      Request beside = request(4, 20, plan(once + REMOVED));
      List<Result> results = engine.run(List.of(plain, steered, beside));
      float[] before = values(plain);
      float[] after = values(steered);
      assertArrayEquals(
          Arrays.copyOf(before, 11 * D), Arrays.copyOf(after, 11 * D), "before the prompt's end");
      float[] expected = reference(before, new Solver.Omp(6, 0), 1);
      assertArrayEquals(
          Arrays.copyOfRange(expected, 11 * D, 12 * D),
          Arrays.copyOfRange(after, 11 * D, 12 * D),
          2e-4f);
      assertFalse(Arrays.equals(before, after));
      double change = 0;
      for (int i = 11 * D; i < 12 * D; i++) {
        change += Math.pow(expected[i] - before[i], 2);
      }
      // Every token of which the report speaks was changed by the same vector.
      SteeringReport.Entry entry = results.get(1).orThrow().report().interventions().getFirst();
      assertEquals(results.get(1).tokens().length, entry.tokens());
      assertEquals(Math.sqrt(change), entry.meanChange(), 1e-3);
      assertEquals(1, entry.concepts().solved());
    }
  }

  @Test
  void strengthZeroLeavesEverythingAndKeepingAllRemovesNothing() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      StringBuilder all = new StringBuilder("\"keep\": [\"c0\"");
      for (int i = 1; i < ATOMS; i++) {
        all.append(", \"c").append(i).append('"');
      }
      Request plain = request(5, 10, SteeringPlan.NONE);
      Request zero = request(5, 10, plan("\"layers\": [1, 2], \"strength\": 0, " + REMOVED));
      Request kept = request(5, 10, plan("\"layers\": [1, 2], " + all + "]"));
      Request keptOne = request(5, 10, plan("\"layers\": [1, 2], \"keep\": [\"c0\"]"));
      List<Result> results = engine.run(List.of(plain, zero, kept, keptOne));
      for (int i = 1; i <= 2; i++) {
        assertArrayEquals(values(plain), values(List.of(plain, zero, kept).get(i)));
        assertArrayEquals(results.get(0).tokens(), results.get(i).tokens());
        assertArrayEquals(results.get(0).logProbabilities(), results.get(i).logProbabilities());
      }
      assertFalse(Arrays.equals(values(plain), values(keptOne)), "all but one were removed");
    }
  }

  @Test
  void whatWasSolvedOutlivesHundredsOfOtherPlans() {
    String once = "\"layers\": [1, 1], \"solve\": \"prompt_end\", \"solver\": \"omp\", " + REMOVED;
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      int[] prompt = request(3, 12, SteeringPlan.NONE).prompt();
      Request plain = Request.of(prompt).withId("plain").withMaxTokens(100);
      Request lasting = plain.with(plan(once + ", \"k\": 6"));
      Result alone = engine.run(lasting).orThrow();
      assertFalse(
          Arrays.equals(engine.run(plain).orThrow().logProbabilities(), alone.logProbabilities()));

      List<Request> all = new ArrayList<>();
      all.add(lasting);
      for (int i = 0; i < 300; i++) {
        SteeringPlan passing = plan(once + ", \"k\": " + (i < 150 ? 4 : 5));
        all.add(Request.of(prompt).withId("r" + i).withMaxTokens(2).with(passing));
      }
      List<Result> results = engine.run(all);
      assertArrayEquals(alone.logProbabilities(), results.getFirst().orThrow().logProbabilities());
      for (int i = 1; i <= 300; i++) {
        assertArrayEquals(
            results.get(i <= 150 ? 1 : 300).orThrow().logProbabilities(),
            results.get(i).orThrow().logProbabilities(),
            "request " + i);
      }
    }
  }

  @Test
  void removingConceptsThatAreInNoCodeChangesNothing() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      // One token is generated and not fed back, so that the prompt's codes are all there are.
      Request plain = request(6, 10, SteeringPlan.NONE);
      plain = Request.of(plain.prompt()).withId("plain").withMaxTokens(1).with(plain.capture());
      Result before = engine.run(plain).orThrow();
      float[] z = values(plain);
      List<String> absent = new ArrayList<>();
      IntStream.range(0, ATOMS).forEach(atom -> absent.add("\"c" + atom + "\""));
      List<String> present = new ArrayList<>();
      for (Code code : withCoder(new Solver.Omp(3, 0), (dictionary, coder) -> coder.solve(z))) {
        for (int atom : code.support()) {
          present.add("\"c" + atom + "\"");
        }
      }
      absent.removeAll(present);
      assertFalse(absent.isEmpty());

      String omp = "\"layers\": [1, 1], \"solver\": \"omp\", \"k\": 3, \"remove\": ";
      Request steered =
          plain
              .with(plan(omp + absent))
              .with(new Capture(CONFIG, Set.of(SITE), plain.prompt().length));
      Result after = engine.run(steered).orThrow();
      assertArrayEquals(z, values(steered));
      assertArrayEquals(before.tokens(), after.tokens());
      assertArrayEquals(before.logProbabilities(), after.logProbabilities());
      assertEquals(0, after.report().interventions().getFirst().meanChange());
      String note = after.report().notes().getFirst();
      assertTrue(note.contains("changed next to nothing"), note);

      Request other =
          plain
              .with(plan(omp + present.subList(0, 1)))
              .with(new Capture(CONFIG, Set.of(SITE), plain.prompt().length));
      assertEquals(List.of(), engine.run(other).orThrow().report().notes());
      assertFalse(Arrays.equals(z, values(other)), "a concept that is there was removed");
    }
  }

  /** Beginnings from which the same concepts are gone are read once, and reported as if not. */
  @Test
  void whatOthersHaveReadIsReported() {
    Llama.Limits limits = new Llama.Limits(256, 16, 8, 40, 256);
    String omp = "\"layers\": [1, 2], \"solver\": \"omp\", \"k\": 6, ";
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, limits);
        Engine apart = new Engine(model, false);
        Engine together = new Engine(model, true)) {
      int[] beginning = new Random(8).ints(150, 3, CONFIG.vocabularySize()).toArray();
      List<Request> requests = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        int[] prompt = Arrays.copyOf(beginning, 151);
        prompt[150] = 3 + i;
        String solve = i % 4 == 1 ? "\"solve\": \"prompt_end\", " : "";
        String when = i % 4 == 2 ? ", \"when\": {\"generation\": \"all\"}" : "";
        requests.add(Request.of(prompt).withMaxTokens(4).with(plan(omp + solve + REMOVED + when)));
      }
      List<Result> expected = apart.run(requests);
      List<Result> results = together.run(requests);
      for (int i = 0; i < requests.size(); i++) {
        assertArrayEquals(expected.get(i).orThrow().tokens(), results.get(i).orThrow().tokens());
        assertArrayEquals(expected.get(i).logProbabilities(), results.get(i).logProbabilities());
        assertEquals(expected.get(i).report(), results.get(i).report());
      }
      assertTrue(expected.getFirst().report().interventions().getFirst().concepts().solved() > 150);
    }
  }

  /** Plans that remove other concepts, one after another through the tables of one that stays. */
  @Test
  void plansThatComeAndGoActAsAlone() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model, true, 0)) {
      String how = "\"layers\": [1, 1], \"solver\": \"omp\", \"k\": 6, \"strength\": %d, ";
      Request stays = request(1, 20, plan(how.formatted(1) + REMOVED)).withMaxTokens(90);
      List<Request> requests = new ArrayList<>(List.of(stays));
      for (int i = 0; i < 40; i++) {
        String names = "\"remove\": [\"c%d\", \"c%d\"]".formatted(i, i + 1);
        requests.add(request(i, 9, plan(how.formatted(1 + i % 3) + names)));
      }
      List<Result> together = engine.run(requests);
      int changed = 0;
      for (int i = 0; i < requests.size(); i++) {
        Request request = requests.get(i);
        try (Engine other = new Engine(model)) {
          Result alone = other.run(request).orThrow();
          assertArrayEquals(alone.tokens(), together.get(i).orThrow().tokens(), request.id());
          assertEquals(alone.report(), together.get(i).report(), request.id());
          Result plain = other.run(request.with(SteeringPlan.NONE)).orThrow();
          changed += Arrays.equals(plain.logProbabilities(), alone.logProbabilities()) ? 0 : 1;
        }
      }
      assertTrue(changed > 20, changed + " plans do anything");
    }
  }

  /** What follows in a plan, and what the message must say. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "'layers': [0, 1], 'remove': ['c1'] | layer 0",
        "'layers': [2, 1], 'remove': ['c1'] | layers",
        "'layers': [1, 3], 'remove': ['c1'] | layers",
        "'layers': [1, 1], 'remove': ['dog'] | dog",
        "'layers': [1, 1], 'remove': [] | remove",
        "'layers': [1, 1] | remove, keep",
        "'layers': [1, 1], 'remove': ['c1'], 'keep': ['c2'] | remove, keep",
        "'layers': [1, 1], 'remove': ['c1'], 'solver': 'magic' | solver",
        "'layers': [1, 1], 'remove': ['c1'], 'k': 3 | k",
        "'layers': [1, 1], 'remove': ['c1'], 'solve': 'sometimes' | solve",
        "'layers': [1, 1], 'remove': ['c1'], 'site': 'z' | site",
        "'layers': [1, 1], 'remove': ['c1'], 'alpha': 0 | alpha",
        "'layers': [1, 1], 'remove': {'file': 'none.json', 'top': 2} | none.json"
      })
  void whatCannotBeMeantIsRefused(String more, String named) {
    String message =
        assertThrows(BadFileException.class, () -> plan(more.replace('\'', '"'))).getMessage();
    assertTrue(message.contains(named), message);
  }

  @Test
  void aSiteHasItsFullNameOrAShortOne() {
    for (Site.Kind kind : List.of(Site.Kind.RESID_PRE, Site.Kind.RESID_POST)) {
      String name = "resid_" + (kind == Site.Kind.RESID_PRE ? "pre" : "post");
      String more = "\"layers\": [1, 1], \"remove\": [\"c1\"], \"site\": \"%s\"";
      SteeringPlan plan = plan(more.formatted("hook_" + name));
      assertEquals(kind, ((RemoveConcepts) plan.interventions().getFirst().edit()).site().kind());
      assertEquals(plan, plan(more.formatted(name)));
    }
  }

  @Test
  void conceptsOfHighestScoreAreThoseOfAFile() throws Exception {
    Files.writeString(
        folder.resolve("scores.json"),
        """
        {"task": "test", "concepts": [{"concept": "c3", "score": -1},
          {"concept": "c4", "score": 0.9}, {"concept": "c9", "score": 0.5}]}
        """);
    SteeringPlan byFile =
        plan("\"layers\": [1, 1], \"remove\": {\"file\": \"scores.json\", \"top\": 2}");
    SteeringPlan byName = plan("\"layers\": [1, 1], \"remove\": [\"c4\", \"c9\"]");
    assertEquals(
        byName.interventions().getFirst().edit(), byFile.interventions().getFirst().edit());
  }
}
