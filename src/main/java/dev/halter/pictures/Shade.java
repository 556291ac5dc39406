package dev.halter.pictures;

/**
 * A colour of the scale of heat maps, which runs from blue through a pale grey to orange: told
 * apart by colour-blind readers too, and lightest in the middle in print.
 *
 * @param share of the scale, -1 (blue) to 1 (orange), clipped; NaN where nothing was measured
 */
record Shade(double share) implements Paint {
  private static final int NONE = 0xdddddd;
  private static final int ZERO = 0xf4f3ee;

  /** From the middle outwards. */
  private static final int[] MINUS = {ZERO, 0x5f9fd4, 0x0b4a8a};

  private static final int[] PLUS = {ZERO, 0xeea04f, 0xa2450a};

  /** Beyond this share dark letters are hard to read. */
  private static final double STRONG = 0.55;

  Shade {
    share = Double.isNaN(share) ? share : Math.clamp(share, -1, 1);
  }

  boolean isNone() {
    return Double.isNaN(share);
  }

  /** Which end's colours are mixed: {@code plus} or {@code minus}. */
  String side() {
    return share > 0 ? "plus" : "minus";
  }

  /** Whether the two colours are those of the outer half. */
  boolean isFar() {
    return Math.abs(share) > 0.5;
  }

  /** How much of the outer one of the two colours, 0 to 1. */
  double part() {
    return 2 * Math.abs(share) - (isFar() ? 1 : 0);
  }

  /** What is written on it. */
  Ink ink() {
    return Math.abs(share) > STRONG ? Ink.ON_STRONG : Ink.TEXT;
  }

  @Override
  public int colour() {
    if (isNone()) {
      return NONE;
    }
    int[] colours = share > 0 ? PLUS : MINUS;
    int from = colours[isFar() ? 1 : 0];
    int to = colours[isFar() ? 2 : 1];
    int mixed = 0;
    for (int shift = 16; shift >= 0; shift -= 8) {
      int low = from >> shift & 0xff;
      int high = to >> shift & 0xff;
      mixed |= (int) Math.round(low + part() * (high - low)) << shift;
    }
    return mixed;
  }
}
