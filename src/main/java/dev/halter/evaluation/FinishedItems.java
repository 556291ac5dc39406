package dev.halter.evaluation;

import java.util.List;
import java.util.Map;

/**
 * Items of an evaluation that are finished, which somebody keeps so that a run that is cut off can
 * go on. An item is given as its readings, one for each arm and draw.
 */
public interface FinishedItems {
  /** None are there, and none are kept. */
  FinishedItems NONE =
      new FinishedItems() {
        @Override
        public List<List<Reading>> restore(Map<String, String> run, List<List<Reading>> items) {
          return items;
        }

        @Override
        public void keep(List<Reading> item) {
          // nobody asks for it again
        }
      };

  /**
   * Fills in the readings of those items that are finished.
   *
   * @param run what tells a run from others, by name
   * @return the other items
   * @throws dev.halter.files.BadFileException if what is kept is of another run
   */
  List<List<Reading>> restore(Map<String, String> run, List<List<Reading>> items);

  /** An item is finished. */
  void keep(List<Reading> item);
}
