package dev.halter.sparse;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.sparse.CodingPlan.Correlations;
import dev.halter.sparse.PursuitCoder.Team;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * What pursuits by clusters have to pass before they are used: on the card at hand they make the
 * codes that blocks make, bit by bit.
 */
final class PursuitCheck {
  private static final int ATOMS = 200;
  private static final int WIDTH = 64;
  private static final Solver.Omp SOLVER = new Solver.Omp(12, 0);

  private PursuitCheck() {}

  /**
   * Compares the two on a small dictionary.
   *
   * @throws DeviceException if they differ, saying what to do
   */
  static void run(Device device) {
    List<String> names = IntStream.range(0, ATOMS).mapToObj(Integer::toString).toList();
    float[] atoms = random(ATOMS * WIDTH, 1);
    float[] vectors = random(3 * WIDTH, 2);
    System.arraycopy(atoms, 5 * WIDTH, atoms, 9 * WIDTH, WIDTH); // two that only order tells apart
    for (int i = 0; i < WIDTH; i++) {
      vectors[i] += 2 * atoms[5 * WIDTH + i];
    }
    try (Dictionary dictionary =
        new Dictionary(
            device,
            Path.of("check"),
            names,
            WIDTH,
            DType.F32,
            (first, into) -> System.arraycopy(atoms, first * WIDTH, into, 0, into.length))) {
      dictionary.gram().requireAll();
      if (!same(solve(dictionary, Team.BLOCK, vectors), solve(dictionary, Team.CLUSTER, vectors))) {
        throw new DeviceException(
            "kernels sparse_pursue_sm90 and sparse_pursue differ on %s: run with -Dhalter.pursuit=block, and report this"
                .formatted(device.description()));
      }
    }
  }

  private static List<Code> solve(Dictionary dictionary, Team team, float[] vectors) {
    CodingPlan plan = CodingPlan.of(dictionary, SOLVER, 3, Correlations.GRAM);
    try (SparseCoder coder = new SparseCoder(dictionary, SOLVER, plan, team)) {
      return coder.solve(vectors);
    }
  }

  static boolean same(List<Code> some, List<Code> others) {
    return IntStream.range(0, some.size())
        .allMatch(
            row ->
                Arrays.equals(some.get(row).support(), others.get(row).support())
                    && Arrays.equals(some.get(row).coefficients(), others.get(row).coefficients()));
  }

  private static float[] random(int count, int seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
