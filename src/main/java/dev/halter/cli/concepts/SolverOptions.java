package dev.halter.cli.concepts;

import dev.halter.cli.OptionValue;
import dev.halter.cli.WrongUseException;
import dev.halter.sparse.Solver;
import picocli.CommandLine.Option;

/** The options that choose a way to code sparsely. */
final class SolverOptions {
  private static final int DEFAULT_K = 32;
  private static final double DEFAULT_ALPHA = 0.05;
  private static final double DEFAULT_TAU = 0.95;

  /** Solvers by their names on the command line. */
  private enum Name {
    OMP,
    LASSO,
    ELASTIC_NET,
    MP
  }

  @Option(
      names = "--solver",
      paramLabel = "S",
      defaultValue = "elastic_net",
      description = "omp, lasso, elastic_net or mp (default: ${DEFAULT-VALUE}).")
  String solver;

  @Option(
      names = "--k",
      paramLabel = "N",
      description = "Atoms of omp, steps of mp (default: 32; all that --tolerance needs).")
  Integer k;

  @Option(
      names = "--alpha",
      paramLabel = "X",
      description = "Penalty of lasso and elastic net (default: 0.05).")
  Double alpha;

  @Option(
      names = "--tau",
      paramLabel = "X",
      description = "Share of the l1 norm in elastic net's penalty (default: 0.95).")
  Double tau;

  @Option(
      names = "--tolerance",
      paramLabel = "X",
      description = "omp stops when the residual has this share of the vector's norm.")
  Double tolerance;

  /**
   * The solver that is meant.
   *
   * @param most atoms that omp may need at most
   * @throws WrongUseException for an option out of range or of another solver
   */
  Solver solver(int most) {
    Name name = OptionValue.of(Name.class, "--solver", solver);
    boolean net = name == Name.ELASTIC_NET;
    allow("--k", k, name == Name.OMP || name == Name.MP);
    allow("--tolerance", tolerance, name == Name.OMP);
    allow("--alpha", alpha, net || name == Name.LASSO);
    allow("--tau", tau, net);
    try {
      return switch (name) {
        case OMP ->
            new Solver.Omp(
                k != null ? k : tolerance != null ? most : DEFAULT_K,
                tolerance != null ? tolerance : 0);
        case MP -> new Solver.MatchingPursuit(k != null ? k : DEFAULT_K);
        case LASSO -> Solver.lasso(alpha != null ? alpha : DEFAULT_ALPHA);
        case ELASTIC_NET ->
            new Solver.ElasticNet(
                alpha != null ? alpha : DEFAULT_ALPHA, tau != null ? tau : DEFAULT_TAU);
      };
    } catch (IllegalArgumentException e) {
      throw new WrongUseException(e.getMessage());
    }
  }

  private void allow(String option, Object value, boolean used) {
    if (value != null && !used) {
      throw new WrongUseException(option + " is no setting of --solver " + solver);
    }
  }
}
