package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/** Orthogonal matching pursuit: a round adds an atom. */
final class OmpCoder implements RowCoder {
  private final Dictionary dictionary;
  private final Struct<SparseRows> rows;
  private final Screening screening;
  private final int capacity;
  private final float tolerance;
  private final Buffer factor; // [rows, capacity, capacity] f64
  private final Buffer work; // [rows, 2, capacity] f64

  OmpCoder(
      Scope scope,
      Dictionary dictionary,
      Solver.Omp omp,
      CodingPlan plan,
      Struct<SparseRows> rows,
      Screening screening) {
    this.dictionary = dictionary;
    this.rows = rows;
    this.screening = screening;
    this.capacity = plan.support();
    this.tolerance = (float) omp.tolerance();
    long codes = (long) plan.rows() * capacity;
    this.factor = scope.allocate(8 * codes * capacity);
    this.work = scope.allocate(16 * codes);
  }

  /** Bytes of a row. */
  static long bytes(int capacity) {
    return 8L * capacity * capacity + 16L * capacity;
  }

  @Override
  public int rounds(boolean watched) {
    return capacity;
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
        device.kernel("orthogonal_matching_pursuit"),
        Grid.of(places),
        SparseCoder.BLOCK,
        0,
        rows,
        screening.candidates,
        factor,
        work,
        dictionary.atoms(),
        dictionary.size(),
        capacity,
        tolerance,
        live);
  }
}
