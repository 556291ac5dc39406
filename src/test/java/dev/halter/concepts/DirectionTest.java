package dev.halter.concepts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class DirectionTest {
  private static List<float[]> rows(int count, int d, long seed, double shift) {
    Random random = new Random(seed);
    List<float[]> rows = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      float[] row = new float[d];
      for (int j = 0; j < d; j++) {
        row[j] = (float) (random.nextGaussian() * (1 + j % 3) + (j == 4 ? shift : 0));
      }
      rows.add(row);
    }
    return rows;
  }

  /** The second moment of all unit differences, applied to v. */
  private static double[] apply(List<float[]> own, List<float[]> others, double[] v) {
    double[] result = new double[v.length];
    for (float[] a : own) {
      for (float[] b : others) {
        double square = 0;
        double dot = 0;
        for (int i = 0; i < v.length; i++) {
          square += Math.pow((double) a[i] - b[i], 2);
          dot += ((double) a[i] - b[i]) * v[i];
        }
        for (int i = 0; i < v.length; i++) {
          result[i] += dot / square * ((double) a[i] - b[i]);
        }
      }
    }
    return result;
  }

  private static double norm(double[] v) {
    double sum = 0;
    for (double x : v) {
      sum += x * x;
    }
    return Math.sqrt(sum);
  }

  @Test
  void theFirstPrincipalDirectionIsTheLargestEigenvectorTowardsTheConcept() {
    List<float[]> own = rows(12, 20, 1, -6);
    List<float[]> others = rows(15, 20, 2, 0);
    float[] found = Direction.PCA.of(own, others);
    double[] v = new double[20];
    double mean = 0;
    for (int i = 0; i < 20; i++) {
      v[i] = found[i];
    }
    double[] mv = apply(own, others, v);
    double eigenvalue = norm(mv);
    for (int i = 0; i < 20; i++) {
      assertEquals(eigenvalue * v[i], mv[i], 1e-4 * eigenvalue);
    }
    assertEquals(1, norm(v), 1e-6);
    // No other direction has more of it.
    Random random = new Random(3);
    for (int trial = 0; trial < 50; trial++) {
      double[] w = random.doubles(20, -1, 1).toArray();
      double length = norm(w);
      double[] mw = apply(own, others, w);
      double quotient = 0;
      for (int i = 0; i < 20; i++) {
        quotient += w[i] * mw[i] / length / length;
      }
      assertTrue(quotient < eigenvalue);
    }
    for (float[] a : own) {
      for (float[] b : others) {
        for (int i = 0; i < 20; i++) {
          mean += ((double) a[i] - b[i]) * v[i];
        }
      }
    }
    assertTrue(mean > 0, "points away from the concept");
  }

  @Test
  void theMeanDirectionIsTheDifferenceOfMeans() {
    List<float[]> own = List.of(new float[] {3, 1}, new float[] {5, 3});
    List<float[]> others = List.of(new float[] {1, -2});
    float[] found = Direction.MEAN.of(own, others);
    assertEquals(0.6, found[0], 1e-6);
    assertEquals(0.8, found[1], 1e-6);
  }

  @ParameterizedTest
  @EnumSource
  void moreOfTheSameIsTheSameAndEqualActivationsAreRefused(Direction direction) {
    List<float[]> own = rows(6, 8, 4, 3);
    List<float[]> others = rows(5, 8, 5, 0);
    List<float[]> twice = new ArrayList<>(own);
    twice.addAll(own);
    float[] once = direction.of(own, others);
    float[] again = direction.of(twice, others);
    for (int i = 0; i < 8; i++) {
      assertEquals(once[i], again[i], 1e-5);
    }
    assertThrows(
        IllegalArgumentException.class,
        () -> direction.of(List.of(own.getFirst()), List.of(own.getFirst())));
  }
}
