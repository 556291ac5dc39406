package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/** What one solver does in a round, for all rows of a batch together. */
sealed interface RowCoder permits OmpCoder, PursuitCoder, MatchingPursuitCoder, ElasticNetCoder {
  /**
   * The coder of a solver.
   *
   * @param scope that what it allocates lives in
   * @param team that takes a row of a pursuit through all its rounds, or null
   */
  static RowCoder of(
      Scope scope,
      Dictionary dictionary,
      Solver solver,
      CodingPlan plan,
      PursuitCoder.Team team,
      Struct<SparseRows> rows) {
    if (solver instanceof Solver.Omp omp && team != null) {
      return new PursuitCoder(scope, dictionary, omp, plan, team, rows);
    }
    Screening screening = Screening.of(scope, dictionary, solver, plan, rows);
    return switch (solver) {
      case Solver.Omp omp -> new OmpCoder(scope, dictionary, omp, plan, rows, screening);
      case Solver.MatchingPursuit pursuit ->
          new MatchingPursuitCoder(dictionary, pursuit, rows, screening);
      case Solver.ElasticNet net ->
          new ElasticNetCoder(scope, dictionary, net, plan, rows, screening);
    };
  }

  /** Bytes of a row that the solver's coder allocates. */
  static long bytes(
      Dictionary dictionary, Solver solver, int capacity, boolean gram, PursuitCoder.Team team) {
    if (team != null) {
      return PursuitCoder.bytes(dictionary, capacity);
    }
    return Screening.bytes(dictionary, solver, gram)
        + switch (solver) {
          case Solver.Omp omp -> OmpCoder.bytes(capacity);
          case Solver.MatchingPursuit pursuit -> 0;
          case Solver.ElasticNet net -> ElasticNetCoder.bytes(capacity);
        };
  }

  /** Queues what all rounds of so many rows use, before the first. */
  void begin(int count);

  /**
   * The most rounds to make.
   *
   * @param watched whether somebody looks if they are still needed
   */
  int rounds(boolean watched);

  /**
   * Queues a round: brings each row's code and residual up to date.
   *
   * @param live rows [places]; null for all
   */
  void step(int places, Buffer live);

  /** Weight of ‖c‖₁ in the objective. */
  default float l1() {
    return 0;
  }

  /** Weight of ½‖c‖² in the objective. */
  default float l2() {
    return 0;
  }
}
