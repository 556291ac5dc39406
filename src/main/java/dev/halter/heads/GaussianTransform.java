package dev.halter.heads;

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
 * formulas could not be read, so the three methods here are our inference. They differ in the
 * rotation that equal covariances leave open, and agree where covariances are equal (whiten and
 * transport already where they commute).
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
    TRANSPORT
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
   * The map of a method. A singular Σ₊ is carried to; a singular Σ₋ has directions about which
   * nothing is known and is refused, but by MEAN.
   *
   * @throws IllegalArgumentException if Σ₋ is singular
   */
  public static GaussianTransform of(Gaussian negative, Gaussian positive, Method method) {
    RealMatrix a =
        switch (method) {
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
