package dev.halter.sparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Graph;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.device.cuda.TestCuda;
import dev.halter.sparse.CodingPlan.Correlations;
import dev.halter.sparse.PursuitCoder.Team;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Pursuits that go through all their rounds in one kernel, by a block and by a cluster. */
class PursuitTest {
  private static final int D = 36;

  private static Stream<Device> withClusters() {
    if (!TestCuda.REAL) {
      return Arrays.stream(Schedule.values()).map(schedule -> CpuDevice.openFaithful(schedule, 1));
    }
    Device card = TestCuda.open();
    assumeTrue(card.runsSm90(), "needs a card of sm_90");
    return Stream.of(card);
  }

  private static float[] random(int count, int seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** Atoms of which the first three are there twice, once the other way round. */
  private static float[] atoms(int n, int d) {
    float[] atoms = random(n * d, 1);
    for (int i = 0; i < 3 * d; i++) {
      atoms[(n - 3) * d + i] = (i < d ? -2 : 1) * atoms[i];
    }
    return atoms;
  }

  /** Vectors near sums of the first atoms, and one that is one of them. */
  private static float[] vectors(float[] atoms, int rows, int d) {
    float[] vectors = random(rows * d, 2);
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < d; i++) {
        float sum = 3 * atoms[(row % 3) * d + i] - 2 * atoms[(3 + row) * d + i];
        vectors[row * d + i] =
            row == rows - 1 ? atoms[7 * d + i] : 0.3f * vectors[row * d + i] + sum;
      }
    }
    return vectors;
  }

  /** One vector after another: with many rows a cluster's kernel would not be taken. */
  private static List<Code> solve(
      Device device, float[] atoms, int d, Solver.Omp omp, Team team, float[] vectors) {
    List<Code> codes = new ArrayList<>();
    try (Dictionary dictionary = GoldenCodes.dictionary(device, atoms, d);
        SparseCoder coder =
            new SparseCoder(
                dictionary, omp, CodingPlan.of(dictionary, omp, 1, Correlations.GRAM), team)) {
      for (int from = 0; from < vectors.length; from += d) {
        codes.addAll(coder.solve(Arrays.copyOfRange(vectors, from, from + d)));
      }
    }
    return codes;
  }

  private static void assertAlike(List<Code> expected, List<Code> found, double within) {
    for (int row = 0; row < expected.size(); row++) {
      Code right = expected.get(row);
      Code code = found.get(row);
      assertNull(code.error());
      assertArrayEquals(right.support(), code.support(), "row " + row);
      assertArrayEquals(right.coefficients(), code.coefficients(), within, "row " + row);
      assertEquals(right.iterations(), code.iterations());
      assertEquals(right.objective(), code.objective(), within);
      assertEquals(right.residualNorm(), code.residualNorm(), within);
      assertEquals(right.kkt(), code.kkt(), Math.min(within, 1e-6));
    }
  }

  /** Whatever the number of atoms, with packs of four and without. */
  @ParameterizedTest
  @MethodSource("withClusters")
  void clustersHaveTheBitsOfBlocksAndTheCodesOfRounds(Device device) {
    for (int d : new int[] {D, D + 1}) {
      for (int n : new int[] {60, 61}) {
        float[] atoms = atoms(n, d);
        float[] vectors = vectors(atoms, 5, d);
        for (Solver.Omp omp : List.of(new Solver.Omp(9, 0), new Solver.Omp(30, 0.3))) {
          List<Code> block = solve(device, atoms, d, omp, Team.BLOCK, vectors);
          assertTrue(block.getFirst().support().length > 1);
          assertEquals(1, block.getLast().support().length, "an atom is its own code");
          assertAlike(block, solve(device, atoms, d, omp, Team.CLUSTER, vectors), 0);
          assertAlike(solve(device, atoms, d, omp, null, vectors), block, 1e-5);
        }
      }
    }
  }

  /**
   * Few rows start from quantised atoms, many from a product in f32, with the same bits. Among
   * atoms that lie nearer to one another than quantising moves them, rough correlations alone would
   * choose others.
   */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void roughStartsChangeNoBit(Device device) {
    float[] atoms = nearlyAlike(1100, D);
    float[] vectors = vectors(atoms, 6, D);
    for (Solver.Omp omp : List.of(new Solver.Omp(12, 0), new Solver.Omp(20, 0.3))) {
      try (Dictionary dictionary = GoldenCodes.dictionary(device, atoms, D)) {
        CodingPlan plan = CodingPlan.of(dictionary, omp, 6, Correlations.GRAM);
        try (SparseCoder coder = new SparseCoder(dictionary, omp, plan, Team.BLOCK)) {
          List<Code> together = coder.solve(vectors);
          for (int row = 0; row < 6; row++) {
            float[] vector = Arrays.copyOfRange(vectors, row * D, (row + 1) * D);
            assertAlike(List.of(together.get(row)), coder.solve(vector), 0);
          }
        }
      }
    }
  }

  /** Atoms in tens that differ by less than a step of 1/32767 in most numbers. */
  private static float[] nearlyAlike(int n, int d) {
    float[] atoms = random(n * d, 3);
    for (int i = 0; i < n * d; i++) {
      int first = i / d / 10 * 10 * d;
      atoms[i] = i < first + d ? atoms[i] : atoms[first + i % d] + 2e-5f * atoms[i];
    }
    return atoms;
  }

  @Test
  void schedulesOfAClusterAgree() {
    float[] atoms = atoms(60, D);
    TestDevices.assertSchedulesAgree(
        device -> {
          Code code =
              solve(device, atoms, D, new Solver.Omp(7, 0), Team.CLUSTER, vectors(atoms, 1, D))
                  .getFirst();
          float[] all = new float[2 * code.support().length];
          for (int i = 0; i < code.support().length; i++) {
            all[2 * i] = code.support()[i];
            all[2 * i + 1] = (float) code.coefficients()[i];
          }
          return all;
        });
  }

  /** Of atoms that lie the same way the first is taken, and no other after it. */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void ofEqualAtomsTheFirstIsTaken(Device device) {
    float[] atoms = atoms(60, D);
    float[] vectors = Arrays.copyOf(vectors(atoms, 4, D), 3 * D);
    for (Code code : solve(device, atoms, D, new Solver.Omp(20, 0), Team.BLOCK, vectors)) {
      assertNull(code.error());
      assertEquals(20, code.support().length);
      assertTrue(Arrays.stream(code.support()).anyMatch(atom -> atom < 3));
      assertTrue(Arrays.stream(code.support()).allMatch(atom -> atom < 57));
    }
  }

  /** As a layer of a decode step does it: nothing comes back to the host. */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void aRecordedPursuitGivesTheCodesOfTheVectorsThatAreThere(Device device) {
    float[] atoms = atoms(60, D);
    float[] vectors = vectors(atoms, 4, D);
    Solver.Omp omp = new Solver.Omp(6, 0);
    List<Code> expected = solve(device, atoms, D, omp, Team.BLOCK, vectors);
    try (Dictionary dictionary = GoldenCodes.dictionary(device, atoms, D);
        Buffer x = device.allocate(4L * 2 * D);
        SparseCoder coder =
            new SparseCoder(
                dictionary, omp, CodingPlan.of(dictionary, omp, 2, Correlations.GRAM))) {
      Function<Integer, float[]> two = row -> Arrays.copyOfRange(vectors, row * D, (row + 2) * D);
      x.set(two.apply(0));
      coder.enqueue(x, D, 2, null);
      try (Graph graph = device.record(() -> coder.enqueue(x, D, 2, null))) {
        x.set(two.apply(2));
        graph.launch();
        SparseCodes codes = (SparseCodes) coder.codes().fields();
        int[] support = codes.support().toInts(12);
        assertArrayEquals(expected.get(2).support(), Arrays.copyOfRange(support, 0, 6));
        assertArrayEquals(expected.get(3).support(), Arrays.copyOfRange(support, 6, 7));
        assertArrayEquals(new int[] {6, 1}, codes.sizes().toInts(2));
      }
    }
  }
}
