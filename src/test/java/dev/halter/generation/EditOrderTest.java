package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
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
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Edits of one site act in their plan's order: every pair of kinds, both ways round, whatever else
 * is in the batch and whichever of them act on a token.
 */
class EditOrderTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final ModelConfig CONFIG = ModelConfig.read(MODEL);
  private static final Llama.Limits LIMITS = new Llama.Limits(128, 16, 8, 16, 128);
  private static final int D = 48;
  private static final int ATOMS = 60;
  private static final int LENGTH = 7;
  private static final int[] PROMPT =
      new Random(3).ints(LENGTH, 3, CONFIG.vocabularySize()).toArray();

  @TempDir static Path folder;

  /** The unit atoms of the dictionary. */
  private static final float[][] UNITS = new float[ATOMS][];

  @BeforeAll
  static void writeDictionary() {
    StringBuilder names = new StringBuilder();
    float[] atoms = new float[ATOMS * D];
    for (int i = 0; i < ATOMS; i++) {
      names.append(i == 0 ? "[" : ",").append("\"c").append(i).append('"');
      UNITS[i] = unit(100 + i);
      System.arraycopy(UNITS[i], 0, atoms, i * D, D);
    }
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            folder.resolve("d.safetensors"),
            Map.of("names", names + "]"),
            List.of(new TensorSpec("atoms.1", DType.F32, ATOMS, D)))) {
      out.write("atoms.1", atoms);
    }
  }

  /** An edit, and what it makes of a row of its site. */
  private record Step(String op, Edit edit, UnaryOperator<float[]> reference) {}

  private static float[] gaussian(int seed, int n) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static float[] unit(int seed) {
    float[] vector = gaussian(seed, D);
    double norm = Math.sqrt(dot(vector, vector));
    for (int i = 0; i < D; i++) {
      vector[i] = (float) (vector[i] / norm);
    }
    return vector;
  }

  private static double dot(float[] a, float[] b) {
    return IntStream.range(0, a.length).mapToDouble(i -> (double) a[i] * b[i]).sum();
  }

  private static float[] plus(float[] x, double factor, float[] v) {
    float[] sum = new float[x.length];
    for (int i = 0; i < x.length; i++) {
      sum[i] = (float) (x[i] + factor * v[i]);
    }
    return sum;
  }

  private static Step project(Site site, int seed, float min, float max) {
    float[] u = unit(seed);
    return new Step(
        min == max ? "ablate" : "project_clamp",
        new Edit.Project(site, u, min, max),
        x -> {
          double p = dot(x, u);
          return plus(x, Math.clamp(p, min, max) - p, u);
        });
  }

  private static Step remove(
      Site site, Solver solver, RemoveConcepts.Solve when, int from, int to) {
    RemoveConcepts.Coding coding =
        new RemoveConcepts.Coding(folder.resolve("d.safetensors"), 1, solver, when);
    List<String> names = IntStream.range(from, to).mapToObj(i -> "c" + i).toList();
    return new Step(
        "remove_concepts",
        new RemoveConcepts(site, coding, names, false, 1),
        x -> {
          float[] left = x;
          Code code = code(solver, x);
          for (int i = 0; i < code.support().length; i++) {
            int atom = code.support()[i];
            if (atom >= from && atom < to) {
              left = plus(left, -code.coefficients()[i], UNITS[atom]);
            }
          }
          return left;
        });
  }

  private static Code code(Solver solver, float[] x) {
    try (Device device = CpuDevice.open(1);
        DictionaryFile file = DictionaryFile.open(folder.resolve("d.safetensors"));
        Dictionary dictionary = file.load(device, 1);
        SparseCoder coder =
            new SparseCoder(dictionary, solver, CodingPlan.of(dictionary, solver, 8, 8))) {
      return coder.solve(x).getFirst();
    }
  }

  /** One of each kind that a d_model site at a block's end takes. */
  private static List<Step> residualSteps(Site site) {
    RemoveConcepts.Solve every = RemoveConcepts.Solve.EVERY_TOKEN;
    float[] added = gaussian(1, D);
    return List.of(
        new Step("add", new Edit.Add(site, added, 0.7f), x -> plus(x, 0.7f, added)),
        project(site, 2, 0, 0),
        project(site, 3, 0.4f, 0.5f),
        remove(site, new Solver.Omp(8, 0), every, 0, 40),
        remove(site, new Solver.ElasticNet(0.01, 0.9), every, 20, 60),
        remove(site, new Solver.Omp(6, 0), RemoveConcepts.Solve.PROMPT_END, 10, 50));
  }

  private static SteeringPlan plan(Trigger first, Trigger second, Step one, Step two) {
    return new SteeringPlan(
        one.op + " then " + two.op,
        List.of(new Intervention(one.edit, first), new Intervention(two.edit, second)));
  }

  private static SteeringPlan plan(Step... steps) {
    return new SteeringPlan(
        "steps",
        Arrays.stream(steps).map(step -> new Intervention(step.edit, Trigger.ALWAYS)).toList());
  }

  private static Request request(Site site, SteeringPlan plan) {
    return Request.of(PROMPT)
        .withId(plan.name())
        .withMaxTokens(4)
        .with(plan)
        .with(new Capture(CONFIG, Set.of(site), LENGTH));
  }

  private static float[] row(Request request, Site site, int row) {
    float[] all = request.capture().values().get(site);
    int width = all.length / LENGTH;
    return Arrays.copyOfRange(all, row * width, (row + 1) * width);
  }

  private static float[] expected(float[] row, Step... steps) {
    for (Step step : steps) {
      row = step.reference.apply(row);
    }
    return row;
  }

  /** Whether a step acts on a token of the prompt. */
  private static boolean acts(Step step, Trigger trigger, int row) {
    boolean once =
        step.edit instanceof RemoveConcepts edit
            && edit.coding().when() == RemoveConcepts.Solve.PROMPT_END;
    return row == LENGTH - 1 || !(once || trigger.equals(Trigger.FROM_LAST));
  }

  private static double distance(float[] a, float[] b) {
    float[] difference = plus(a, -1, b);
    return Math.sqrt(dot(difference, difference) / dot(a, a));
  }

  /** Requests alone, then all together; all must be what the plan's order makes of plain rows. */
  private static void check(Engine engine, Site site, Step one, Step two) {
    Request plain = request(site, SteeringPlan.NONE);
    engine.run(plain).orThrow();
    List<Request> batch = new ArrayList<>();
    List<Result> alone = new ArrayList<>();
    // What asks for the second first; it must come before the rest.
    List<SteeringPlan> company = List.of(plan(two), plan(two, one), plan(two, two));
    company.forEach(plan -> batch.add(request(site, plan)));
    for (Trigger first : List.of(Trigger.ALWAYS, Trigger.FROM_LAST)) {
      for (Trigger second : List.of(Trigger.ALWAYS, Trigger.FROM_LAST)) {
        SteeringPlan plan = plan(first, second, one, two);
        for (boolean inCompany : new boolean[] {false, true}) {
          Request request = request(site, plan);
          List<Request> all = new ArrayList<>();
          if (inCompany) {
            batch.forEach(other -> all.add(request(site, other.plan())));
          }
          all.add(request);
          Result result = engine.run(all).getLast().orThrow();
          for (int row = 0; row < LENGTH; row++) {
            List<Step> steps = new ArrayList<>();
            if (acts(one, first, row)) {
              steps.add(one);
            }
            if (acts(two, second, row)) {
              steps.add(two);
            }
            assertArrayEquals(
                expected(row(plain, site, row), steps.toArray(Step[]::new)),
                row(request, site, row),
                3e-4f,
                plan.name() + " at " + site + ", token " + row + ", in company: " + inCompany);
          }
          if (inCompany) {
            // What is generated comes of the same edits in the same order.
            Result before = alone.removeFirst();
            assertArrayEquals(before.logProbabilities(), result.logProbabilities(), 1e-5f);
          } else {
            alone.add(result);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"RESID_PRE", "RESID_POST"})
  void everyPairOfResidualEditsActsInThePlansOrder(Site.Kind kind) {
    Site site = new Site(kind, 1);
    List<Step> steps = residualSteps(site);
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      Request plain = request(site, SteeringPlan.NONE);
      engine.run(plain).orThrow();
      float[] last = row(plain, site, LENGTH - 1);
      for (int i = 0; i < steps.size(); i++) {
        for (int k = 0; k < steps.size(); k++) {
          Step first = steps.get(i);
          Step second = steps.get(k);
          if (i != k) {
            assertTrue(
                distance(expected(last, first, second), expected(last, second, first)) > 1e-3,
                first.op + " and " + second.op + " can be told apart by their order");
          }
          check(engine, site, first, second);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void editsBetweenRemovalsStayBetweenThem(Device device) {
    Site site = new Site(Site.Kind.RESID_POST, 1);
    List<Step> s = residualSteps(site);
    checkLong(device, site, s.get(0), s.get(3), s.get(1), s.get(4), s.get(2));
  }

  @ParameterizedTest
  @EnumSource(names = {"RESID_PRE", "RESID_POST"})
  void manyEditsOfOneSiteActInThePlansOrder(Site.Kind kind) {
    Site site = new Site(kind, 1);
    List<Step> s = residualSteps(site);
    try (Device device = CpuDevice.open(2)) {
      checkLong(device, site, s.get(0), s.get(3), s.get(1), s.get(4), s.get(2), s.get(5), s.get(0));
    }
  }

  /** A plan and its reverse in one batch. */
  private static void checkLong(Device device, Site site, Step... all) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      Step[] reversed = new Step[all.length];
      Arrays.setAll(reversed, i -> all[all.length - 1 - i]);
      Request plain = request(site, SteeringPlan.NONE);
      Request forward = request(site, plan(all));
      Request backward = request(site, plan(reversed));
      List<Result> results = engine.run(List.of(plain, backward, forward));
      results.forEach(Result::orThrow);
      float[] last = row(plain, site, LENGTH - 1);
      assertArrayEquals(expected(last, all), row(forward, site, LENGTH - 1), 5e-4f);
      assertArrayEquals(expected(last, reversed), row(backward, site, LENGTH - 1), 5e-4f);
      // Each of them reports what it did.
      results
          .getLast()
          .report()
          .interventions()
          .forEach(entry -> assertTrue(entry.meanChange() > 0, entry.toString()));
      assertArrayEquals(
          results.getLast().logProbabilities(),
          engine.run(request(site, plan(all))).orThrow().logProbabilities(),
          1e-5f);
    }
  }

  /** Of two that solve in the same way at the prompt's end, each keeps what it found. */
  @Test
  void twoRemovalsOfOneCodingKeepTheirOwnVectors() {
    Site site = new Site(Site.Kind.RESID_POST, 1);
    RemoveConcepts.Solve once = RemoveConcepts.Solve.PROMPT_END;
    Step first = remove(site, new Solver.Omp(8, 0), once, 0, 30);
    Step second = remove(site, new Solver.Omp(8, 0), once, 30, 60);
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      // The first finds its vector at the prompt's end and changes nothing after it.
      SteeringPlan both = plan(Trigger.LAST, Trigger.FROM_LAST, first, second);
      Result result = engine.run(request(site, both)).orThrow();
      Request plain = request(site, SteeringPlan.NONE);
      engine.run(plain).orThrow();
      float[] last = row(plain, site, LENGTH - 1);
      float[] between = expected(last, first);
      float[] gone = plus(between, -1, expected(between, second));
      double change = Math.sqrt(dot(gone, gone));
      assertTrue(change > 0);
      assertEquals(change, result.report().interventions().get(1).meanChange(), 1e-4 * change);
    }
  }

  @Test
  void everyPairOfHeadEditsActsInThePlansOrder() {
    Site site = new Site(Site.Kind.Z, 1);
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      int dHead = CONFIG.dHead();
      float[] a = gaussian(5, dHead * dHead);
      float[] b = gaussian(6, dHead);
      Step affine =
          new Step(
              "head_affine",
              new Edit.HeadAffine(site, new int[] {1}, a, b, model.fingerprint()),
              z -> {
                float[] moved = z.clone();
                float[] head = Arrays.copyOfRange(z, dHead, 2 * dHead);
                for (int i = 0; i < dHead; i++) {
                  float[] rowOfA = Arrays.copyOfRange(a, i * dHead, (i + 1) * dHead);
                  moved[dHead + i] = (float) (dot(rowOfA, head) + b[i]);
                }
                return moved;
              });
      Step scale =
          new Step(
              "head_scale",
              new Edit.Heads(site, new int[] {1}, 0.5f),
              z -> {
                float[] moved = z.clone();
                for (int i = dHead; i < 2 * dHead; i++) {
                  moved[i] *= 0.5f;
                }
                return moved;
              });
      for (Step one : List.of(affine, scale)) {
        for (Step two : List.of(affine, scale)) {
          check(engine, site, one, two);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"PRE", "PRE_LINEAR", "POST"})
  void everyPairOfNeuronEditsActsInThePlansOrder(Site.Kind kind) {
    Site site = new Site(kind, 1);
    float inf = Float.POSITIVE_INFINITY;
    List<Step> steps =
        List.of(
            neuron(site, 0, 0.3f, 0.3f),
            neuron(site, 1, -0.01f, 0.01f),
            neuron(site, -3, -inf, inf));
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS);
        Engine engine = new Engine(model)) {
      for (Step one : steps) {
        for (Step two : steps) {
          check(engine, site, one, two);
        }
      }
    }
  }

  private static Step neuron(Site site, float scale, float min, float max) {
    return new Step(
        "neuron_clamp",
        new Edit.Neurons(site, new int[] {2, 5}, scale, min, max),
        row -> {
          float[] edited = row.clone();
          for (int n : new int[] {2, 5}) {
            edited[n] = min == max ? min : Math.clamp(scale * row[n], min, max);
          }
          return edited;
        });
  }
}
