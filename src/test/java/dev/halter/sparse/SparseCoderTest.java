package dev.halter.sparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.files.JsonObject;
import dev.halter.sparse.CodingPlan.Correlations;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class SparseCoderTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final Solver.ElasticNet NET = new Solver.ElasticNet(0.05, 0.95);

  /** Every way to screen: by products in both types, and from the Gram matrix. */
  private enum Way {
    WIDE,
    NARROW,
    GRAM;

    SparseCoder coder(Dictionary dictionary, Solver solver, int rows) {
      CodingPlan plan =
          CodingPlan.of(
              dictionary, solver, rows, this == GRAM ? Correlations.GRAM : Correlations.PRODUCTS);
      return new SparseCoder(
          dictionary,
          solver,
          new CodingPlan(
              plan.correlations(),
              this == NARROW ? DType.BF16 : DType.F32,
              rows,
              plan.support(),
              plan.scratchBytes(),
              plan.gramBytes()));
    }
  }

  private static List<Code> solve(
      Device device, Way way, float[] atoms, int d, Solver solver, float[] vectors) {
    try (Dictionary dictionary = GoldenCodes.dictionary(device, atoms, d);
        SparseCoder coder = way.coder(dictionary, solver, Math.max(1, vectors.length / d))) {
      return coder.solve(vectors);
    }
  }

  @Test
  void pursuitsOfEveryDictionaryAreScikitLearns() {
    try (Device device = CpuDevice.open(2)) {
      for (String name : GoldenCodes.NAMES) {
        checkPursuits(device, name, Way.values());
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void pursuitsAreScikitLearnsOnEveryDevice(Device device) {
    checkPursuits(device, "shared-mean", Way.NARROW);
    checkPursuits(device, "wide", Way.GRAM); // on CUDA several chunks
  }

  private static void checkPursuits(Device device, String name, Way... ways) {
    GoldenCodes golden = new GoldenCodes(name);
    for (Way way : ways) {
      String what = name + " " + way;
      List<JsonObject> ten = golden.pursuits("omp");
      checkPursuit(device, way, golden, new Solver.Omp(10, 0), ten, what);
      List<JsonObject> close = golden.pursuits("omp_tolerance");
      checkPursuit(device, way, golden, new Solver.Omp(40, 0.4), close, what + " to 0.4");
    }
  }

  private static void checkPursuit(
      Device device,
      Way way,
      GoldenCodes golden,
      Solver solver,
      List<JsonObject> expected,
      String what) {
    try (Dictionary dictionary = golden.dictionary(device);
        SparseCoder coder = way.coder(dictionary, solver, golden.rows)) {
      List<Code> codes = coder.solve(golden.vectors);
      assertEquals(golden.rows, codes.size());
      for (int row = 0; row < golden.rows; row++) {
        Code code = codes.get(row);
        JsonObject right = expected.get(row);
        String where = what + " row " + row;
        // Of atoms that are equal scikit-learn takes either, we the first.
        int[] support =
            right.integers("support").stream().mapToInt(dictionary::firstTwin).toArray();
        assertArrayEquals(support, code.support(), where);
        double[] coefficients = GoldenCodes.numbers(right, "coefficients");
        for (int i = 0; i < support.length; i++) {
          int atom = right.integers("support").get(i);
          double scaled = coefficients[i] * dictionary.norm(atom) / dictionary.norm(support[i]);
          assertEquals(scaled, code.coefficients()[i], 1e-4 * Math.abs(scaled) + 1e-4, where);
        }
        double norm = right.number("residual_norm", 0, 1e9);
        assertEquals(norm, code.residualNorm(), 1e-5 * norm, where);
        assertEquals(support.length, code.iterations(), where);
        assertNull(code.error(), where);
        GoldenCodes.Judge judge = golden.new Judge(row, code);
        assertEquals(judge.squares() / 2, code.objective(), 1e-6, where);
        for (int atom : support) {
          assertEquals(0, judge.correlation(atom), 1e-5, where);
        }
        assertTrue(code.kkt() < 1e-6, where);
      }
    }
  }

  @Test
  void netsOfEveryDictionaryReachScikitLearnsObjective() {
    try (Device device = CpuDevice.open(2)) {
      for (String name : GoldenCodes.NAMES) {
        for (int net = 0; net < 4; net++) {
          checkNet(device, name, net, 11, Way.values());
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void netsReachScikitLearnsObjectiveOnEveryDevice(Device device) {
    checkNet(device, "shared-mean", 0, 4, Way.NARROW);
    checkNet(device, "duplicates", 2, 3, Way.GRAM);
  }

  private static void checkNet(Device device, String name, int number, int rows, Way... ways) {
    GoldenCodes golden = new GoldenCodes(name);
    JsonObject expected = golden.json.objects("nets").get(number);
    Solver.ElasticNet net =
        new Solver.ElasticNet(expected.number("alpha", 0, 1), expected.number("tau", 0, 1));
    for (Way way : ways) {
      float[] vectors = Arrays.copyOf(golden.vectors, rows * golden.d);
      List<Code> codes = solve(device, way, golden.atoms, golden.d, net, vectors);
      for (int row = 0; row < rows; row++) {
        String where = "%s %s %s row %d".formatted(name, net, way, row);
        Code code = codes.get(row);
        double right = expected.objects("codes").get(row).number("objective", 0, 10);
        GoldenCodes.Judge judge = golden.new Judge(row, code);
        assertEquals(right, judge.objective(net), 1e-6 * right, where);
        assertEquals(right, code.objective(), 1e-6 * right, where);
        assertTrue(judge.kkt(net) < 2e-6, where + " " + judge.kkt(net));
        assertTrue(code.kkt() < 1e-6, where + " " + code.kkt());
        assertNull(code.error(), where);
        assertTrue(code.iterations() < 30, where + " " + code.iterations());
      }
    }
  }

  @Test
  void aSmallAlphaConvergesToo() {
    GoldenCodes golden = new GoldenCodes("near-parallel");
    try (Device device = CpuDevice.open(1)) {
      Solver.ElasticNet net = new Solver.ElasticNet(0.002, 0.9);
      for (Way way : Way.values()) {
        for (Code code : solve(device, way, golden.atoms, golden.d, net, golden.vectors)) {
          assertNull(code.error());
          assertTrue(code.kkt() <= 1e-5 * net.threshold(), "kkt " + code.kkt());
        }
      }
    }
  }

  /**
   * A threshold so small that a residual in f32 cannot tell 1e-5 of it. The objective is strongly
   * convex with modulus ρ = α(1−τ), so violations v prove it to be within ‖v‖²/2ρ of the optimum.
   */
  @Test
  void aSmallThresholdConvergesToo() {
    try (Device device = CpuDevice.open(2)) {
      for (String name : List.of("gaussian", "shared-mean")) {
        GoldenCodes golden = new GoldenCodes(name);
        float[] vectors = Arrays.copyOf(golden.vectors, 2 * golden.d);
        for (double tau : new double[] {0.01, 0.001, 1e-5}) {
          Solver.ElasticNet net = new Solver.ElasticNet(0.05, tau);
          for (Way way : Way.values()) {
            List<Code> codes = solve(device, way, golden.atoms, golden.d, net, vectors);
            for (int row = 0; row < 2; row++) {
              String where = "%s tau %s %s row %d".formatted(name, tau, way, row);
              assertNull(codes.get(row).error(), where);
              double worst = golden.new Judge(row, codes.get(row)).kkt(net);
              int atoms = golden.atoms.length / golden.d;
              double gap = atoms * worst * worst / 2 / net.ridge();
              assertTrue(gap < 1e-10, where + ": within " + gap);
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rowsThatCannotBeCodedCostOnlyThemselves(Device device) {
    GoldenCodes golden = new GoldenCodes("gaussian");
    int d = golden.d;
    float[] vectors = Arrays.copyOf(golden.vectors, 5 * d);
    Arrays.fill(vectors, d, 2 * d, 0);
    vectors[2 * d + 7] = Float.NaN;
    vectors[3 * d] = Float.NEGATIVE_INFINITY;
    for (Solver solver : List.of(NET, new Solver.Omp(4, 0), new Solver.MatchingPursuit(4))) {
      Way way = solver == NET ? Way.WIDE : Way.GRAM;
      float[] first = Arrays.copyOf(golden.vectors, d);
      Code alone = solve(device, way, golden.atoms, d, solver, first).getFirst();
      List<Code> codes = solve(device, way, golden.atoms, d, solver, vectors);
      assertSame(alone, codes.get(0));
      assertTrue(alone.support().length > 0);
      assertTrue(codes.get(4).support().length > 0);
      Code zero = codes.get(1);
      assertEquals(0, zero.support().length);
      assertEquals(0, zero.objective());
      assertEquals(0, zero.residualNorm());
      assertNull(zero.error());
      for (int row : new int[] {2, 3}) {
        assertEquals(0, codes.get(row).support().length);
        assertTrue(codes.get(row).error().contains("not finite"));
      }
    }
  }

  private static void assertSame(Code expected, Code actual) {
    assertArrayEquals(expected.support(), actual.support());
    assertArrayEquals(expected.coefficients(), actual.coefficients());
    assertEquals(expected.objective(), actual.objective());
    assertEquals(expected.residualNorm(), actual.residualNorm());
    assertEquals(expected.iterations(), actual.iterations());
    assertEquals(expected.kkt(), actual.kkt());
  }

  @Test
  void aRowsCodeDoesNotDependOnTheBatch() {
    GoldenCodes golden = new GoldenCodes("wide");
    try (Device device = CpuDevice.open(2)) {
      for (Solver solver : List.of(NET, new Solver.Omp(9, 0.2), new Solver.MatchingPursuit(6))) {
        for (Way way : Way.values()) {
          float[] many = new float[70 * golden.d]; // the golden rows over and over
          for (int i = 0; i < many.length; i++) {
            many[i] = golden.vectors[i % golden.vectors.length];
          }
          List<Code> all = solve(device, way, golden.atoms, golden.d, solver, many);
          for (int row = 0; row < golden.rows; row++) {
            float[] one = Arrays.copyOfRange(golden.vectors, row * golden.d, (row + 1) * golden.d);
            Code alone = solve(device, way, golden.atoms, golden.d, solver, one).getFirst();
            for (int same = row; same < 70; same += golden.rows) {
              assertSame(alone, all.get(same));
            }
          }
        }
      }
    }
  }

  /** Rows that have the device to themselves are worked on by more threads each. */
  @Test
  void aNetsCodeDoesNotDependOnHowManyThreadsMakeIt() {
    GoldenCodes golden = new GoldenCodes("wide");
    int rows = 2;
    float[] some = Arrays.copyOf(golden.vectors, rows * golden.d);
    try (Device device = CpuDevice.openFaithful(Schedule.RANDOM, 1)) {
      for (Way way : Way.values()) {
        List<Code> together = solve(device, way, golden.atoms, golden.d, NET, some);
        for (int row = 0; row < rows; row++) {
          float[] one = Arrays.copyOfRange(some, row * golden.d, (row + 1) * golden.d);
          Code alone = solve(device, way, golden.atoms, golden.d, NET, one).getFirst();
          assertTrue(alone.iterations() > 1, "one round shows little");
          assertSame(alone, together.get(row));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void pursuitStopsAtTheRankAndWhereThereAreNoMoreAtoms(Device device) {
    int d = 33;
    // Seven atoms in a space of three dimensions, and a vector outside of it.
    float[] base = random(3 * d, 1);
    float[] atoms = new float[7 * d];
    Random random = new Random(2);
    for (int atom = 0; atom < 7; atom++) {
      for (int i = 0; i < 3; i++) {
        float share = (float) random.nextGaussian();
        for (int j = 0; j < d; j++) {
          atoms[atom * d + j] += share * base[i * d + j];
        }
      }
    }
    for (Way way : Way.values()) {
      Code code = solve(device, way, atoms, d, new Solver.Omp(50, 0), random(d, 3)).getFirst();
      assertEquals(3, code.support().length);
      assertNull(code.error());
      assertTrue(code.kkt() < 1e-6 && code.residualNorm() > 1);

      // As many independent atoms as there are: all of them, and no more.
      Code all = solve(device, way, base, d, new Solver.Omp(50, 0), random(d, 3)).getFirst();
      assertArrayEquals(new int[] {0, 1, 2}, sorted(all.support()));
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aVectorThatIsOneAtomNeedsNoOther(Device device) {
    GoldenCodes golden = new GoldenCodes("shared-mean");
    float[] vector = Arrays.copyOfRange(golden.atoms, 17 * golden.d, 18 * golden.d);
    for (int i = 0; i < vector.length; i++) {
      vector[i] *= -2.5f;
    }
    for (Solver solver : List.of(new Solver.Omp(5, 0), new Solver.MatchingPursuit(5))) {
      for (Way way : Way.values()) {
        Code code = solve(device, way, golden.atoms, golden.d, solver, vector).getFirst();
        assertEquals(17, code.support()[0]);
        assertEquals(-2.5, code.coefficients()[0], 1e-5);
        assertEquals(0, code.residualNorm(), 1e-4);
        if (solver instanceof Solver.Omp) {
          assertEquals(1, code.support().length);
        }
      }
    }
  }

  /** Prop. 1 of PaCE: over one atom without a penalty the rest is what projection leaves. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void overOneAtomTheFormulasHold(Device device) {
    for (int d : new int[] {1, 31, 257, 1023}) {
      float[] atom = random(d, d);
      float[] vector = random(d, d + 1);
      double dot = 0;
      double norm = 0;
      double squares = 0;
      for (int i = 0; i < d; i++) {
        dot += (double) atom[i] * vector[i];
        norm += (double) atom[i] * atom[i];
        squares += (double) vector[i] * vector[i];
      }
      double length = Math.sqrt(squares);
      double cosine = dot / Math.sqrt(norm) / length;
      Code projection = solve(device, Way.WIDE, atom, d, new Solver.Omp(1, 0), vector).getFirst();
      assertEquals(dot / norm, projection.coefficients()[0], 1e-6 * Math.abs(dot / norm));
      double left = Math.sqrt(Math.max(0, squares - dot * dot / norm));
      assertEquals(left, projection.residualNorm(), 1e-5 * length);

      // Prop. 2, with the l1 term: c = (⟨z, v⟩ − λ1 sign) / (1 + λ2).
      Solver.ElasticNet net = new Solver.ElasticNet(Math.abs(cosine) / 2, 0.6);
      Code code = solve(device, Way.WIDE, atom, d, net, vector).getFirst();
      double c = (cosine - Math.signum(cosine) * net.threshold()) / (1 + net.ridge());
      assertEquals(
          c * length / Math.sqrt(norm), code.coefficients()[0], 1e-6 * Math.abs(c * length));
      Solver.ElasticNet above = new Solver.ElasticNet(Math.abs(cosine) * 1.001, 1);
      assertEquals(0, solve(device, Way.WIDE, atom, d, above, vector).getFirst().support().length);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void plainPursuitMovesOneCoefficientAtATime(Device device) {
    GoldenCodes golden = new GoldenCodes("near-parallel");
    int steps = 12;
    for (Way way : Way.values()) {
      List<Code> codes =
          solve(
              device,
              way,
              golden.atoms,
              golden.d,
              new Solver.MatchingPursuit(steps),
              Arrays.copyOf(golden.vectors, 3 * golden.d));
      for (int row = 0; row < 3; row++) {
        // The same in doubles: what the atoms and the residual must be.
        Code now = new Code(new int[0], new double[0], 0, 0, 0, 0, null);
        double[] c = new double[golden.n];
        for (int step = 0; step < steps; step++) {
          GoldenCodes.Judge judge = golden.new Judge(row, now);
          int best =
              IntStream.range(0, golden.n)
                  .boxed()
                  .max((a, b) -> Double.compare(size(judge, a), size(judge, b)))
                  .orElseThrow();
          c[best] += judge.correlation(best);
          now = code(golden, row, c);
        }
        Code code = codes.get(row);
        assertArrayEquals(sorted(now.support()), sorted(code.support()));
        double expected = golden.new Judge(row, now).squares();
        assertEquals(expected, golden.new Judge(row, code).squares(), 1e-6);
        assertEquals(steps, code.iterations());
      }
    }
  }

  private static double size(GoldenCodes.Judge judge, int atom) {
    return Math.abs(judge.correlation(atom));
  }

  /** A code whose coefficients of unit atoms for the unit vector are these. */
  private static Code code(GoldenCodes golden, int row, double[] c) {
    int[] support = IntStream.range(0, c.length).filter(atom -> c[atom] != 0).toArray();
    double length = norm(golden.vectors, row, golden.d);
    double[] scaled =
        IntStream.of(support)
            .mapToDouble(atom -> c[atom] * length / norm(golden.atoms, atom, golden.d))
            .toArray();
    return new Code(support, scaled, 0, 0, 0, 0, null);
  }

  private static double norm(float[] values, int row, int d) {
    double sum = 0;
    for (int i = row * d; i < (row + 1) * d; i++) {
      sum += (double) values[i] * values[i];
    }
    return Math.sqrt(sum);
  }

  /** An exact dot decides even where bf16 sees a hundred atoms as one. */
  @Test
  void anAtomThatScreeningCannotTellApartIsFoundExactly() {
    int d = 64;
    int n = 200;
    float[] atoms = new float[n * d];
    float[] direction = random(d, 5);
    for (int atom = 0; atom < n; atom++) {
      float[] other = random(d, 100 + atom);
      for (int i = 0; i < d; i++) {
        atoms[atom * d + i] = direction[i] + 1e-2f * other[i];
      }
    }
    try (Device device = CpuDevice.open(2)) {
      for (int atom : new int[] {0, 77, 199}) {
        float[] vector = Arrays.copyOfRange(atoms, atom * d, (atom + 1) * d);
        for (Way way : Way.values()) {
          Code code = solve(device, way, atoms, d, new Solver.Omp(1, 0), vector).getFirst();
          assertArrayEquals(new int[] {atom}, code.support(), way.toString());
        }
      }
    }
  }

  @Test
  void aCodeOfMoreAtomsThanPlannedGetsMoreRoom() {
    GoldenCodes golden = new GoldenCodes("wide");
    try (Device device = CpuDevice.open(2);
        Dictionary dictionary = golden.dictionary(device)) {
      for (Correlations correlations : Correlations.values()) {
        CodingPlan small = CodingPlan.of(dictionary, NET, 4, correlations, 3);
        CodingPlan large = CodingPlan.of(dictionary, NET, 4, correlations);
        try (SparseCoder narrow = new SparseCoder(dictionary, NET, small);
            SparseCoder wide = new SparseCoder(dictionary, NET, large)) {
          List<Code> expected = wide.solve(golden.vectors);
          List<Code> codes = narrow.solve(golden.vectors);
          for (int row = 0; row < golden.rows; row++) {
            assertNull(codes.get(row).error());
            assertTrue(codes.get(row).support().length > 3);
            assertEquals(expected.get(row).objective(), codes.get(row).objective(), 1e-6);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatIsQueuedSkipsRowsAndAddsChosenAtoms(Device device) {
    GoldenCodes golden = new GoldenCodes("gaussian");
    int d = golden.d;
    int stride = d + 5;
    int rows = 4;
    for (Solver solver : List.of(NET, new Solver.Omp(6, 0))) {
      for (Correlations correlations : Correlations.values()) {
        try (Dictionary dictionary = golden.dictionary(device);
            SparseCoder coder =
                new SparseCoder(
                    dictionary, solver, CodingPlan.of(dictionary, solver, 6, correlations));
            Buffer x = device.allocate(4L * rows * stride);
            Buffer out = device.allocate(4L * rows * stride);
            Buffer skip = device.allocate(4L * rows);
            Buffer chosen = device.allocate(4L * golden.n)) {
          float[] strided = new float[rows * stride];
          for (int row = 0; row < rows; row++) {
            System.arraycopy(golden.vectors, row * d, strided, row * stride, d);
          }
          x.set(strided);
          skip.set(0, 1, 0, 0);
          coder.enqueue(x, stride, rows, skip);
          SparseCodes queued = (SparseCodes) coder.codes().fields();
          int capacity = queued.capacity();
          int[] sizes = queued.sizes().toInts(rows);
          int[] support = queued.support().toInts(rows * capacity);
          List<Code> codes = new ArrayList<>();
          try (SparseCoder other =
              new SparseCoder(
                  dictionary, solver, CodingPlan.of(dictionary, solver, 6, correlations))) {
            codes.addAll(other.solve(Arrays.copyOf(golden.vectors, rows * d)));
          }
          assertEquals(0, sizes[1]);
          int[] mask = new int[golden.n];
          for (int row : new int[] {0, 2, 3}) {
            int from = row * capacity;
            int[] found = Arrays.copyOfRange(support, from, from + sizes[row]);
            assertArrayEquals(codes.get(row).support(), found);
            assertTrue(found.length > 2);
          }
          // The first two atoms of row 2, taken off wherever they are.
          mask[codes.get(2).support()[0]] = 1;
          mask[codes.get(2).support()[1]] = 1;
          chosen.set(mask);
          out.set(strided);
          coder.combine(out, stride, rows, -0.5f, chosen);
          float[] changed = out.toFloats(rows * stride);
          for (int row = 0; row < rows; row++) {
            double[] expected = new double[stride];
            for (int i = 0; i < stride; i++) {
              expected[i] = strided[row * stride + i];
            }
            Code code = codes.get(row);
            for (int i = 0; row != 1 && i < code.support().length; i++) {
              int atom = code.support()[i];
              for (int j = 0; j < d; j++) {
                expected[j] -=
                    0.5 * mask[atom] * code.coefficients()[i] * golden.atoms[atom * d + j];
              }
            }
            for (int i = 0; i < stride; i++) {
              assertEquals(expected[i], changed[row * stride + i], 1e-4);
            }
          }
          assertTrue(Math.abs(changed[2 * stride] - strided[2 * stride]) > 1e-3);
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    GoldenCodes golden = new GoldenCodes("shared-mean");
    float[] vectors = Arrays.copyOf(golden.vectors, 2 * golden.d);
    for (Solver solver : List.of(NET, new Solver.Omp(7, 0), new Solver.MatchingPursuit(5))) {
      for (Way way : List.of(Way.NARROW, Way.GRAM)) {
        TestDevices.assertSchedulesAgree(
            device -> {
              float[] all = new float[0];
              for (Code code : solve(device, way, golden.atoms, golden.d, solver, vectors)) {
                int from = all.length;
                all = Arrays.copyOf(all, from + 2 * code.support().length + 2);
                for (int i = 0; i < code.support().length; i++) {
                  all[from + 2 * i] = code.support()[i];
                  all[from + 2 * i + 1] = (float) code.coefficients()[i];
                }
                all[all.length - 2] = (float) code.objective();
                all[all.length - 1] = (float) code.kkt();
              }
              return all;
            });
      }
    }
  }

  @Test
  void scratchIsWhatThePlanSays() {
    GoldenCodes golden = new GoldenCodes("wide");
    try (CpuDevice device = (CpuDevice) CpuDevice.open(1);
        Dictionary dictionary = golden.dictionary(device)) {
      for (Solver solver : List.of(NET, new Solver.Omp(9, 0), new Solver.MatchingPursuit(3))) {
        for (Correlations correlations : Correlations.values()) {
          CodingPlan plan = CodingPlan.of(dictionary, solver, 50, correlations);
          long before = device.allocated();
          try (SparseCoder coder = new SparseCoder(dictionary, solver, plan)) {
            double taken = (double) (device.allocated() - before);
            assertEquals((double) plan.scratchBytes(), taken, 0.05 * taken + 4096, plan.toString());
            assertNotNull(coder.plan());
          }
        }
      }
    }
  }

  @Test
  void settingsThatMeanNothingAreRefused() {
    for (String part : List.of("k is 0", "alpha is 0", "tau is 0", "tolerance is 1")) {
      var error =
          assertThrows(
              IllegalArgumentException.class,
              () -> {
                switch (part) {
                  case "k is 0" -> new Solver.Omp(0, 0);
                  case "alpha is 0" -> Solver.lasso(0);
                  case "tau is 0" -> new Solver.ElasticNet(0.1, 0);
                  default -> new Solver.Omp(1, 1);
                }
              });
      assertTrue(error.getMessage().contains(part), error.getMessage());
    }
    float[] atoms = {1, 0, 0, 1};
    try (Device device = CpuDevice.open(1)) {
      var error =
          assertThrows(
              IllegalArgumentException.class,
              () -> solve(device, Way.WIDE, atoms, 2, NET, new float[3]));
      assertTrue(error.getMessage().contains("vectors of 2"), error.getMessage());
    }
  }

  private static float[] random(int count, long seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static int[] sorted(int[] values) {
    return IntStream.of(values).sorted().toArray();
  }
}
