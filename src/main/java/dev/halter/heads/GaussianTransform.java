package dev.halter.heads;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoubleUnaryOperator;
import org.apache.commons.math3.linear.EigenDecomposition;
import org.apache.commons.math3.linear.MatrixUtils;
import org.apache.commons.math3.linear.RealMatrix;
import org.apache.commons.math3.stat.correlation.Covariance;

/**
 * The affine map z → A z + b that carries one Gaussian into another: what makes a head's output
 * look like that of prompts with the wanted behaviour.
 *
 * <p>Sparse Activation Control (arXiv 2411.02461) controls heads by Gaussians of their outputs; its
 * formulas could not be read, so the methods here are our inference. The first three carry one
 * Gaussian into the other; they differ in the rotation that equal covariances leave open, and agree
 * where covariances are equal (whiten and transport already where they commute). The last knows
 * which sample goes where, so that one map can serve several tasks: their samples together.
 *
 * @param a [d, d]
 * @param b [d]
 */
public record GaussianTransform(RealMatrix a, double[] b) {
  /** Eigenvalues below this share of the largest are taken for 0. */
  private static final double SINGULAR = 1e-10;

  /** How the negative Gaussian N(μ₋, Σ₋) is carried into the positive one N(μ₊, Σ₊). */
  public enum Method {
    /** Moves the mean: A = I. */
    MEAN,
    /** Whitens and colours: A = Σ₊^½ Σ₋^−½. */
    WHITEN,
    /**
     * Optimal transport, the map of least mean squared change: A = Σ₋^−½ (Σ₋^½ Σ₊ Σ₋^½)^½ Σ₋^−½.
     */
    TRANSPORT,
    /**
     * What the positive side of a pair has where the negative one has z: the conditional mean A = I
     * + Σ_δz Σ_zz^−1 of the joint Gaussian of z and its change δ. Positive samples count too, with
     * no change: what is as wanted stays.
     */
    PAIRS
  }

  /** A Gaussian; {@code covariance} is [d, d], with n − 1 in its denominator. */
  public record Gaussian(int samples, double[] mean, RealMatrix covariance) {

    /**
     * Mean and covariance of samples.
     *
     * @throws IllegalArgumentException if there are fewer than two
     */
    public static Gaussian of(List<float[]> samples) {
      if (samples.size() < 2) {
        throw new IllegalArgumentException(
            "a Gaussian needs two samples or more, but there is " + samples.size());
      }
      int d = samples.getFirst().length;
      double[][] rows = new double[samples.size()][d];
      double[] mean = new double[d];
      for (int row = 0; row < rows.length; row++) {
        for (int i = 0; i < d; i++) {
          rows[row][i] = samples.get(row)[i];
          mean[i] += rows[row][i] / rows.length;
        }
      }
      RealMatrix covariance = new Covariance(rows).getCovarianceMatrix();
      return new Gaussian(rows.length, mean, covariance);
    }

    /** With covariance (1 − ρ) Σ + ρ tr(Σ)/d I. */
    public Gaussian shrunk(double rho) {
      int d = mean.length;
      RealMatrix round = MatrixUtils.createRealIdentityMatrix(d);
      double variance = covariance.getTrace() / d;
      return new Gaussian(
          samples,
          mean,
          covariance.scalarMultiply(1 - rho).add(round.scalarMultiply(rho * variance)));
    }
  }

  /**
   * The map of a method between samples; those of PAIRS are in the same order.
   *
   * @param shrinkage of the covariances
   * @throws IllegalArgumentException if a covariance that is to be inverted is singular, or PAIRS
   *     has more of one side
   */
  public static GaussianTransform of(
      List<float[]> negative, List<float[]> positive, Method method, double shrinkage) {
    return method == Method.PAIRS
        ? ofPairs(negative, positive, shrinkage)
        : of(
            Gaussian.of(negative).shrunk(shrinkage),
            Gaussian.of(positive).shrunk(shrinkage),
            method);
  }

  private static GaussianTransform ofPairs(
      List<float[]> negative, List<float[]> positive, double shrinkage) {
    if (negative.size() != positive.size()) {
      throw new IllegalArgumentException(
          "%,d positive and %,d negative samples are no pairs"
              .formatted(positive.size(), negative.size()));
    }
    List<float[]> all = new ArrayList<>(negative);
    all.addAll(positive);
    Gaussian z = Gaussian.of(all);
    int n = all.size();
    int d = z.mean.length;
    double[][] centred = new double[n][d];
    double[][] change = new double[n][d]; // of positive samples none
    double[] meanChange = new double[d];
    for (int row = 0; row < n; row++) {
      for (int i = 0; i < d; i++) {
        centred[row][i] = all.get(row)[i] - z.mean[i];
        if (row < negative.size()) {
          change[row][i] = positive.get(row)[i] - negative.get(row)[i];
          meanChange[i] += change[row][i] / n;
        }
      }
    }
    RealMatrix cross =
        MatrixUtils.createRealMatrix(change)
            .transpose()
            .multiply(MatrixUtils.createRealMatrix(centred))
            .scalarMultiply(1.0 / (n - 1));
    RealMatrix inverseRoot = inverseRoot(z.shrunk(shrinkage));
    RealMatrix a =
        MatrixUtils.createRealIdentityMatrix(d)
            .add(cross.multiply(inverseRoot).multiply(inverseRoot));
    double[] moved = a.operate(z.mean);
    double[] b = new double[d];
    Arrays.setAll(b, i -> z.mean[i] + meanChange[i] - moved[i]);
    return new GaussianTransform(a, b);
  }

  /**
   * The map of a method between Gaussians, which PAIRS is not. A singular Σ₊ is carried to; a
   * singular Σ₋ has directions about which nothing is known and is refused, but by MEAN.
   *
   * @throws IllegalArgumentException if Σ₋ is singular
   */
  public static GaussianTransform of(Gaussian negative, Gaussian positive, Method method) {
    RealMatrix a =
        switch (method) {
          case PAIRS -> throw new IllegalArgumentException("two Gaussians are no pairs");
          case MEAN -> MatrixUtils.createRealIdentityMatrix(negative.mean.length);
          case WHITEN -> root(positive.covariance).multiply(inverseRoot(negative));
          case TRANSPORT -> {
            RealMatrix root = root(negative.covariance);
            RealMatrix inverse = inverseRoot(negative);
            RealMatrix middle = root(root.multiply(positive.covariance).multiply(root));
            yield inverse.multiply(middle).multiply(inverse);
          }
        };
    double[] moved = a.operate(negative.mean);
    double[] b = new double[moved.length];
    Arrays.setAll(b, i -> positive.mean[i] - moved[i]);
    return new GaussianTransform(a, b);
  }

  private static RealMatrix root(RealMatrix covariance) {
    // Rounding may leave an eigenvalue of 0 a little below it.
    return function(covariance, value -> Math.sqrt(Math.max(0, value)));
  }

  private static RealMatrix inverseRoot(Gaussian gaussian) {
    int d = gaussian.mean.length;
    EigenDecomposition eigen = new EigenDecomposition(gaussian.covariance);
    double[] values = eigen.getRealEigenvalues();
    double largest = Arrays.stream(values).max().orElse(0);
    double smallest = Arrays.stream(values).min().orElse(0);
    if (!(smallest > SINGULAR * largest)) {
      throw new IllegalArgumentException(
          "the covariance of %,d samples of %d numbers is singular: %s"
              .formatted(
                  gaussian.samples,
                  d,
                  largest > 0
                      ? "shrink it, give more prompts, or move the mean alone"
                      : "the samples do not differ; move the mean alone"));
    }
    return function(gaussian.covariance, value -> 1 / Math.sqrt(value));
  }

  /** V f(D) Vᵀ of a symmetric V D Vᵀ. */
  private static RealMatrix function(RealMatrix matrix, DoubleUnaryOperator f) {
    RealMatrix symmetric = matrix.add(matrix.transpose()).scalarMultiply(0.5);
    EigenDecomposition eigen = new EigenDecomposition(symmetric);
    double[] values = Arrays.stream(eigen.getRealEigenvalues()).map(f).toArray();
    return eigen
        .getV()
        .multiply(MatrixUtils.createRealDiagonalMatrix(values))
        .multiply(eigen.getVT());
  }
}
