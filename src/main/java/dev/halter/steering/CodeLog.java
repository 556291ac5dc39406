package dev.halter.steering;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.model.Llama;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * Codes that removals have made, kept on the device until there are many or somebody asks: a step's
 * report is gone with the next step.
 */
final class CodeLog implements AutoCloseable {
  private static final int ROOM = 4096; // codes
  private static final int BLOCK = 32;

  private final Llama model;
  private final Scope scope;
  private Buffer index; // I32 [ROOM]: where the step's report has them; null until there are any
  private Buffer reports; // f32 [ROOM, REPORTED]

  private final int[] places = new int[ROOM]; // in the step's report
  private final Codes[] sums = new Codes[ROOM]; // what they are added to
  private final ConceptRemoval[] removals = new ConceptRemoval[ROOM]; // that made them
  private int kept; // on the device
  private int count; // with those that are still in the step's report

  CodeLog(Llama model) {
    this.model = model;
    this.scope = model.device().scope();
  }

  /**
   * Notes a code of the step just run.
   *
   * @param place in the floats of {@link Llama#changes}
   */
  void add(int place, ConceptRemoval removal, Codes to) {
    if (count == ROOM) {
      read();
    }
    places[count] = place;
    removals[count] = removal;
    sums[count++] = to;
  }

  /** Keeps what the step's report has, before the next step. */
  void keep() {
    int more = count - kept;
    if (more == 0) {
      return;
    }
    if (index == null) {
      index = scope.allocate(4L * ROOM);
      reports = scope.allocate(4L * ROOM * RemoveConcepts.REPORTED);
    }
    index.copyFrom(MemorySegment.ofArray(places).asSlice(4L * kept, 4L * more));
    Device device = model.device();
    device.launch(
        device.kernel("read_rows_f32"),
        8L * more * RemoveConcepts.REPORTED,
        Grid.of(more),
        BLOCK,
        0,
        reports.slice(4L * kept * RemoveConcepts.REPORTED),
        model.changes(),
        index,
        RemoveConcepts.REPORTED,
        1L); // a row begins at any float
    kept = count;
  }

  /** Adds all codes to their sums, and begins anew. */
  void read() {
    keep();
    if (count == 0) {
      return;
    }
    float[] codes = reports.toFloats(count * RemoveConcepts.REPORTED);
    for (int i = 0; i < count; i++) {
      sums[i].add(codes, i * RemoveConcepts.REPORTED, removals[i]::name);
    }
    Arrays.fill(sums, null);
    Arrays.fill(removals, null);
    kept = 0;
    count = 0;
  }

  @Override
  public void close() {
    scope.close();
  }
}
