package dev.halter.serving;

import java.util.List;

/**
 * Looks for the texts that end an answer, also where one spans several tokens: text that may be the
 * beginning of one is held back until it is known.
 */
final class StopTexts {
  private final List<String> stops;
  private final boolean isIncluded;
  private final StringBuilder held = new StringBuilder();
  private String found;

  /**
   * A search through one answer.
   *
   * @param isIncluded whether the text that ends it is a part of it
   */
  StopTexts(List<String> stops, boolean isIncluded) {
    this.stops = stops;
    this.isIncluded = isIncluded;
  }

  /** The text that can be shown now that {@code fresh} came. */
  String add(String fresh) {
    held.append(fresh);
    int at = held.length();
    for (String stop : stops) {
      int place = held.indexOf(stop);
      if (place >= 0 && place < at) {
        at = place;
        found = stop;
      }
    }
    if (found != null) {
      return held.substring(0, isIncluded ? at + found.length() : at);
    }
    return take(held.length() - beginning());
  }

  /** The same, and all that was held back, where {@code fresh} is not to end the answer. */
  String pass(String fresh) {
    held.append(fresh);
    return take(held.length());
  }

  /** The text that has ended it, or null. */
  String found() {
    return found;
  }

  private String take(int length) {
    String text = held.substring(0, length);
    held.delete(0, length);
    return text;
  }

  /** Length of the longest end of the text with which a stop may begin. */
  private int beginning() {
    int longest = 0;
    for (String stop : stops) {
      for (int length = Math.min(stop.length() - 1, held.length()); length > longest; length--) {
        if (held.indexOf(stop.substring(0, length), held.length() - length) >= 0) {
          longest = length;
        }
      }
    }
    return longest;
  }
}
