package dev.halter.sparse;

import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.function.IntFunction;
import java.util.stream.IntStream;

/**
 * Finds unit atoms that have one direction: those that lie no further apart than rounding may have
 * moved them.
 *
 * <p>Each atom has a sketch: its elements, every sixteenth of them from another place on, are
 * projected on a unit vector. Atoms lie at least as far apart as each number of their sketches, so
 * that only those whose sketches agree are compared in full.
 */
final class Twins {
  private static final int SKETCH = 16;

  private final int width;
  private final float[] signs;
  private final float[][] sketches;

  /** Of {@code atoms} atoms of length {@code width}, none of which is known yet. */
  Twins(int atoms, int width) {
    this.width = width;
    this.signs = new float[width];
    this.sketches = new float[atoms][];
    Random random = new Random(1);
    for (int i = 0; i < width; i++) {
      int alike = (width - i % SKETCH + SKETCH - 1) / SKETCH;
      signs[i] = (float) ((random.nextBoolean() ? 1 : -1) / Math.sqrt(alike));
    }
  }

  /** Learns an atom, which begins at {@code from}. */
  void add(int atom, float[] values, int from) {
    float[] sketch = new float[SKETCH];
    for (int i = 0; i < width; i++) {
      sketch[i % SKETCH] += signs[i] * values[from + i];
    }
    sketches[atom] = sketch;
  }

  /**
   * For each atom the first of those that are the same: itself unless it repeats another.
   *
   * @param unit reads an atom
   * @param apart how far from each other, in L2 norm, atoms of one direction may lie
   */
  int[] first(IntFunction<float[]> unit, double apart) {
    int[] first = IntStream.range(0, sketches.length).toArray();
    List<Integer> order =
        IntStream.range(0, sketches.length)
            .boxed()
            .sorted(Comparator.comparingDouble(atom -> sketches[atom][0]))
            .toList();
    double slack = apart + 1e-5; // sketches are sums in f32
    for (int i = 0; i < order.size(); i++) {
      int a = order.get(i);
      float[] atom = null;
      for (int j = i + 1; j < order.size(); j++) {
        int b = order.get(j);
        if (sketches[b][0] - sketches[a][0] > slack) {
          break;
        }
        if (near(sketches[a], sketches[b], slack)) {
          atom = atom == null ? unit.apply(a) : atom;
          if (distance(atom, unit.apply(b)) <= apart) {
            unite(first, a, b);
          }
        }
      }
    }
    Arrays.setAll(first, atom -> root(first, atom));
    return first;
  }

  private static boolean near(float[] a, float[] b, double apart) {
    for (int i = 1; i < SKETCH; i++) {
      if (Math.abs(a[i] - b[i]) > apart) {
        return false;
      }
    }
    return true;
  }

  private static double distance(float[] a, float[] b) {
    double squares = 0;
    for (int i = 0; i < a.length; i++) {
      double difference = (double) a[i] - b[i];
      squares += difference * difference;
    }
    return Math.sqrt(squares);
  }

  private static void unite(int[] first, int a, int b) {
    int rootOfA = root(first, a);
    int rootOfB = root(first, b);
    first[Math.max(rootOfA, rootOfB)] = Math.min(rootOfA, rootOfB);
  }

  private static int root(int[] first, int atom) {
    int root = atom;
    while (first[root] != root) {
      root = first[root];
    }
    return root;
  }
}
