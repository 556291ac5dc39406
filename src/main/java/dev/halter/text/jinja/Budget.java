package dev.halter.text.jinja;

/**
 * What one rendering may cost. Templates come from model folders, so they are hostile input: every
 * evaluated node, every character produced or searched and every list element is charged here, and
 * a template that uses the budget up ends with an error instead of a hang or an exhausted heap.
 *
 * <p>One unit is about one character copied. The budget grows with the input, since honest
 * templates pass over each message a few dozen times.
 */
final class Budget {
  /** Units for an evaluated node: an order of magnitude for time, not a measurement. */
  static final int NODE = 16;

  /** Units for a list element, a reference to a possibly boxed value. */
  static final int ELEMENT = 8;

  private static final long BASE = 32L << 20;
  private static final long PER_INPUT_UNIT = 256;
  private static final int MAX_DEPTH = 400;

  private long left;
  private int depth;

  Budget(long inputUnits) {
    left = BASE + PER_INPUT_UNIT * inputUnits;
  }

  void charge(long units) {
    left -= units;
    if (left < 0) {
      throw new TemplateException("the template does too much work or makes too much text");
    }
  }

  /** Charges a search of {@code needle} in {@code text} at its worst case. */
  void chargeSearch(int text, int needle) {
    charge((long) text * Math.max(1, needle));
  }

  /** Goes one level deeper into nested nodes or values; pairs with {@link #leave}. */
  void enter() {
    if (++depth > MAX_DEPTH) {
      throw new TemplateException("nested more than " + MAX_DEPTH + " levels deep");
    }
  }

  void leave() {
    depth--;
  }
}
