package dev.halter.concepts;

import java.util.List;

/**
 * The direction in which the activations of a concept's texts differ from those of other texts: a
 * unit vector [d_model] towards the concept.
 *
 * <p>Source: PaCE (arXiv 2406.04331), appendix B.2, equation 6: the differences between every
 * activation of the concept and every other one are put on the unit sphere, and their first
 * principal direction is taken. The sign, which the paper leaves open, is that of the mean
 * difference.
 */
public enum Direction {
  /**
   * First principal direction of the unit differences, about zero and not about their mean: as all
   * of them point from the others to the concept, centring would take away what they have in
   * common. (The code that PaCE builds on draws the order within each pair at random, which has the
   * same end.)
   */
  PCA {
    @Override
    float[] raw(List<float[]> own, List<float[]> others) {
      return principal(own, others);
    }
  },
  /** Mean of the concept's activations less mean of the others. */
  MEAN {
    @Override
    float[] raw(List<float[]> own, List<float[]> others) {
      double[] sum = new double[own.getFirst().length];
      own.forEach(row -> add(sum, row, 1.0 / own.size()));
      others.forEach(row -> add(sum, row, -1.0 / others.size()));
      return unit(sum);
    }
  };

  private static final int MOST_ITERATIONS = 500;
  private static final double ENOUGH = 1e-12;

  /** The direction before it is checked. */
  abstract float[] raw(List<float[]> own, List<float[]> others);

  /**
   * The direction.
   *
   * @param own activations [d_model] of the concept, at least one
   * @param others activations of other concepts, at least one
   * @throws IllegalArgumentException if they do not differ
   */
  public float[] of(List<float[]> own, List<float[]> others) {
    float[] direction = raw(own, others);
    for (float value : direction) {
      if (!Float.isFinite(value)) {
        throw new IllegalArgumentException(
            "its texts leave the same activations as other concepts' or none that are finite");
      }
    }
    return direction;
  }

  /**
   * Power iteration on M = Σ u uᵀ over unit differences u = w (a − b), w = 1/‖a − b‖, in the span
   * of all rows: with K their Gram matrix and L = Σ w² (e_a − e_b)(e_a − e_b)ᵀ, the direction Σ y_i
   * row_i goes to that of y ← L K y. No difference is ever written down, so that a step costs a
   * matrix of rows by rows and not one of pairs by d_model.
   */
  private static float[] principal(List<float[]> own, List<float[]> others) {
    int m = own.size();
    int n = m + others.size();
    double[][] gram = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        gram[i][j] = dot(row(own, others, i), row(own, others, j));
        gram[j][i] = gram[i][j];
      }
    }
    double[][] weights = new double[m][n - m]; // w²
    double[] y = new double[n]; // Σ w (e_a − e_b): the sum of the unit differences
    for (int a = 0; a < m; a++) {
      for (int b = m; b < n; b++) {
        double square = gram[a][a] + gram[b][b] - 2 * gram[a][b];
        // Equal activations have no direction to give.
        weights[a][b - m] = square > 1e-12 * gram[a][a] ? 1 / square : 0;
        double w = Math.sqrt(weights[a][b - m]);
        y[a] += w;
        y[b] -= w;
      }
    }
    double[] mean = y.clone();
    double[] product = multiply(gram, y);
    scale(y, 1 / Math.sqrt(dot(y, product)));
    for (int iteration = 0; iteration < MOST_ITERATIONS; iteration++) {
      double[] projections = multiply(gram, y); // ⟨row_i, v⟩
      double[] next = new double[n];
      for (int a = 0; a < m; a++) {
        for (int b = m; b < n; b++) {
          double step = weights[a][b - m] * (projections[a] - projections[b]);
          next[a] += step;
          next[b] -= step;
        }
      }
      product = multiply(gram, next);
      scale(next, 1 / Math.sqrt(dot(next, product)));
      double cosine = dot(next, projections);
      y = next;
      if (1 - cosine < ENOUGH) {
        break;
      }
    }
    double[] sum = new double[own.getFirst().length];
    double sign = Math.signum(dot(y, multiply(gram, mean)));
    for (int i = 0; i < n; i++) {
      add(sum, row(own, others, i), sign * y[i]);
    }
    return unit(sum);
  }

  private static float[] row(List<float[]> own, List<float[]> others, int i) {
    return i < own.size() ? own.get(i) : others.get(i - own.size());
  }

  private static double[] multiply(double[][] matrix, double[] vector) {
    double[] product = new double[vector.length];
    for (int i = 0; i < product.length; i++) {
      product[i] = dot(matrix[i], vector);
    }
    return product;
  }

  private static double dot(double[] a, double[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += a[i] * b[i];
    }
    return sum;
  }

  private static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  private static void scale(double[] vector, double factor) {
    for (int i = 0; i < vector.length; i++) {
      vector[i] *= factor;
    }
  }

  /** sum += factor * row. */
  static void add(double[] sum, float[] row, double factor) {
    for (int i = 0; i < sum.length; i++) {
      sum[i] += factor * row[i];
    }
  }

  /** The vector at length 1; NaN throughout if it has none. */
  static float[] unit(double[] vector) {
    double norm = Math.sqrt(dot(vector, vector));
    float[] unit = new float[vector.length];
    for (int i = 0; i < unit.length; i++) {
      unit[i] = (float) (vector[i] / norm);
    }
    return unit;
  }
}
