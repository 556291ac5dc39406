package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Struct;

/** Plain matching pursuit: a round moves one coefficient. */
final class MatchingPursuitCoder implements RowCoder {
  private final Dictionary dictionary;
  private final Struct<SparseRows> rows;
  private final Screening screening;
  private final int steps;

  MatchingPursuitCoder(
      Dictionary dictionary,
      Solver.MatchingPursuit pursuit,
      Struct<SparseRows> rows,
      Screening screening) {
    this.dictionary = dictionary;
    this.rows = rows;
    this.screening = screening;
    this.steps = pursuit.k();
  }

  @Override
  public int rounds(boolean watched) {
    return steps;
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
        device.kernel("matching_pursuit"),
        Grid.of(places),
        SparseCoder.BLOCK,
        0,
        rows,
        screening.candidates,
        dictionary.atoms(),
        dictionary.size(),
        steps,
        live);
  }
}
