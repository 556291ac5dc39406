package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Struct;

/** Plain matching pursuit: a round moves one coefficient. */
final class MatchingPursuitCoder implements RowCoder {
  private final Dictionary dictionary;
  private final Struct<SparseRows> rows;
  private final Struct<SparseCandidates> candidates;
  private final int steps;

  MatchingPursuitCoder(
      Dictionary dictionary,
      Solver.MatchingPursuit pursuit,
      Struct<SparseRows> rows,
      Struct<SparseCandidates> candidates) {
    this.dictionary = dictionary;
    this.rows = rows;
    this.candidates = candidates;
    this.steps = pursuit.k();
  }

  @Override
  public int rounds(boolean watched) {
    return steps;
  }

  @Override
  public void step(int places, Buffer live) {
    Device device = dictionary.device();
    device.launch(
        device.kernel("matching_pursuit"),
        Grid.of(places),
        SparseCoder.BLOCK,
        0,
        rows,
        candidates,
        dictionary.atoms(),
        dictionary.size(),
        steps,
        live);
  }
}
