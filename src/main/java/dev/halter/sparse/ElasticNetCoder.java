package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * Elastic net and lasso by active sets: a round takes the atoms that violate the optimality
 * conditions into a row's working set, and minimises over that.
 *
 * <p>Source of the rounds: You et al., "Oracle based active set algorithm for scalable elastic net
 * subspace clustering" (EnSC, CVPR 2016), which PaCE uses.
 */
final class ElasticNetCoder implements RowCoder {
  /** Rounds: 4 to 8 are usual, and each brings the end nearer. */
  private static final int MOST_ROUNDS = 200;

  /** Rounds that are queued where nobody can look whether they are needed. */
  private static final int QUEUED_ROUNDS = 12;

  /**
   * Threads for a row that has a multiprocessor to itself: a warp's dot with an atom waits for the
   * atom, so that many warps are as many times faster. No bit depends on it.
   */
  private static final int BLOCK_OF_FEW = 512;

  private final Dictionary dictionary;
  private final Struct<SparseRows> rows;
  private final Screening screening;
  private final Struct<SparseWorking> working;
  private final boolean gram;
  private final float threshold;
  private final float ridge;

  ElasticNetCoder(
      Scope scope,
      Dictionary dictionary,
      Solver.ElasticNet net,
      CodingPlan plan,
      Struct<SparseRows> rows,
      Screening screening) {
    this.dictionary = dictionary;
    this.rows = rows;
    this.screening = screening;
    this.working = SparseWorking.allocate(scope, plan.rows(), plan.support());
    this.gram = plan.usesGram();
    this.threshold = (float) net.threshold();
    this.ridge = (float) net.ridge();
  }

  /** Bytes of a row. */
  static long bytes(int capacity) {
    return SparseWorking.bytes(capacity);
  }

  @Override
  public int rounds(boolean watched) {
    return watched ? MOST_ROUNDS : QUEUED_ROUNDS;
  }

  @Override
  public void begin(int count) {
    screening.begin(count);
  }

  @Override
  public void step(int places, Buffer live) {
    screening.screen(places, live);
    Device device = dictionary.device();
    device.launch(
        device.kernel("active_set"),
        Grid.of(places),
        places > device.multiprocessors() ? SparseCoder.BLOCK : BLOCK_OF_FEW,
        0,
        rows,
        screening.candidates,
        working,
        dictionary.atoms(),
        gram ? dictionary.gram().complete() : null,
        dictionary.size(),
        threshold,
        ridge,
        live);
  }

  @Override
  public float l1() {
    return threshold;
  }

  @Override
  public float l2() {
    return ridge;
  }
}
