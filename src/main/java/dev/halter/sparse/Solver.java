package dev.halter.sparse;

/**
 * A way to make a vector of few atoms. All work on the unit vector z = x/‖x‖ and unit atoms D, one
 * row of a batch independently of the others; coefficients are scaled back to x after.
 *
 * <p>Source: Luo et al., PaCE (arXiv 2406.04331), eq. 1 and 2 for the objective, section 4.4 for
 * matching pursuits beside it. That z is normalised is read in the released code; the paper's
 * algorithm leaves it out, and α would mean nothing without it.
 */
public sealed interface Solver {

  /** The most atoms that a code may have by default, where the solver does not say itself. */
  int DEFAULT_SUPPORT = 256;

  /**
   * Orthogonal matching pursuit, as scikit-learn's {@code orthogonal_mp}: add the atom of largest
   * |⟨a, residual⟩|, least squares on the support, again.
   *
   * @param k most atoms
   * @param tolerance stop when ‖residual‖ is no more than this share of ‖x‖; 0: only at k atoms
   */
  record Omp(int k, double tolerance) implements Solver {
    public Omp {
      requireAtoms(k);
      if (!(tolerance >= 0 && tolerance < 1)) {
        throw new IllegalArgumentException(
            "the tolerance is " + tolerance + ", must be from 0 to below 1");
      }
    }
  }

  /**
   * Plain matching pursuit: each step moves the coefficient of one atom alone, which may be one of
   * before.
   *
   * @param k steps, and so most atoms
   */
  record MatchingPursuit(int k) implements Solver {
    public MatchingPursuit {
      requireAtoms(k);
    }
  }

  /**
   * The minimiser c of ½‖z − Dc‖² + α(τ‖c‖₁ + (1−τ)·½‖c‖²); scikit-learn's {@code ElasticNet} with
   * alpha = α/d, l1_ratio = τ and no intercept. The lasso is τ = 1.
   */
  record ElasticNet(double alpha, double tau) implements Solver {
    public ElasticNet {
      if (!(alpha > 0 && alpha <= 1e6)) {
        throw new IllegalArgumentException("alpha is " + alpha + ", must be above 0");
      }
      if (!(tau > 0 && tau <= 1)) {
        throw new IllegalArgumentException(
            "tau is " + tau + ", must be above 0 (no code would be sparse) and at most 1");
      }
    }

    /** ατ: an atom is used where |⟨a, residual⟩| exceeds it. */
    public double threshold() {
      return alpha * tau;
    }

    /** α(1−τ). */
    public double ridge() {
      return alpha * (1 - tau);
    }
  }

  /** The lasso: an elastic net with τ = 1. */
  static ElasticNet lasso(double alpha) {
    return new ElasticNet(alpha, 1);
  }

  private static void requireAtoms(int k) {
    if (k < 1) {
      throw new IllegalArgumentException("k is " + k + ", must be 1 or more");
    }
  }
}
