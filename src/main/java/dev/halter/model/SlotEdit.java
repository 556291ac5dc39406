package dev.halter.model;

/**
 * A queued edit of many slots, which join and leave it between steps: its launches stay the same.
 */
public interface SlotEdit extends QueuedEdit {
  /**
   * Takes a slot in.
   *
   * @param placed its edit, and where it reports
   * @return false, and all is as it was, if there is no room: then another is made, with more
   */
  boolean join(SteeringTable.Placed placed);

  /** Leaves the tokens of a slot alone from now on. */
  void leave(int slot);
}
