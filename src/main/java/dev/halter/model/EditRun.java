package dev.halter.model;

import dev.halter.model.SteeringTable.Placed;
import java.util.ArrayList;
import java.util.List;

/** Edits of a slot that follow one another at one site and are made in one go. */
final class EditRun {
  private static final Object KERNELS = new Object();

  final Object together; // what it can be made in one go with
  final List<Placed> edits = new ArrayList<>();
  int begin; // of its operations, if it is of kernels

  private EditRun(Object together) {
    this.together = together;
  }

  /** Cuts a slot's edits of one site where a queued one begins or ends. */
  static List<EditRun> of(List<Placed> edits) {
    List<EditRun> runs = new ArrayList<>();
    for (Placed placed : edits) {
      Object together = placed.edit() instanceof Edit.Queued queued ? queued.together() : KERNELS;
      boolean goesOn = together.equals(KERNELS) && !runs.isEmpty() && runs.getLast().isOfKernels();
      if (!goesOn) {
        runs.add(new EditRun(together));
      }
      runs.getLast().edits.add(placed);
    }
    return runs;
  }

  Object together() {
    return together;
  }

  /** Whether kernels make it by themselves; a queued edit is a run of its own. */
  boolean isOfKernels() {
    return together.equals(KERNELS);
  }

  int slot() {
    return edits.getFirst().slot();
  }

  int end() {
    return begin + edits.size();
  }
}
