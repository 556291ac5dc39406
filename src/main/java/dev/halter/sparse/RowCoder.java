package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/** What one solver does in a round, for all rows of a batch together. */
sealed interface RowCoder permits OmpCoder, MatchingPursuitCoder, ElasticNetCoder {
  /**
   * The coder of a solver.
   *
   * @param scope that what it allocates lives in
   */
  static RowCoder of(
      Scope scope,
      Dictionary dictionary,
      Solver solver,
      CodingPlan plan,
      Struct<SparseRows> rows,
      Struct<SparseCandidates> candidates) {
    return switch (solver) {
      case Solver.Omp omp -> new OmpCoder(scope, dictionary, omp, plan, rows, candidates);
      case Solver.MatchingPursuit pursuit ->
          new MatchingPursuitCoder(dictionary, pursuit, rows, candidates);
      case Solver.ElasticNet net ->
          new ElasticNetCoder(scope, dictionary, net, plan, rows, candidates);
    };
  }

  /** Bytes of a row that the solver's coder allocates. */
  static long bytes(Solver solver, int capacity) {
    return switch (solver) {
      case Solver.Omp omp -> OmpCoder.bytes(capacity);
      case Solver.MatchingPursuit pursuit -> 0;
      case Solver.ElasticNet net -> ElasticNetCoder.bytes(capacity);
    };
  }

  /**
   * The most rounds to make.
   *
   * @param watched whether somebody looks if they are still needed
   */
  int rounds(boolean watched);

  /**
   * Queues a round after screening: brings each row's code and residual up to date.
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
