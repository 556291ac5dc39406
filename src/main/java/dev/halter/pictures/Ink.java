package dev.halter.pictures;

import java.util.Locale;

/** Colours by what they are for; the style sheet of pages has a class of each name. */
enum Ink implements Paint {
  PAPER(0xffffff),
  TEXT(0x1f2328),
  FAINT(0x5b626b),
  RULE(0xd9d6cf),
  ACCENT(0x9a3412),
  /** Text on the far half of a colour scale. */
  ON_STRONG(0xffffff);

  private final int colour;

  Ink(int colour) {
    this.colour = colour;
  }

  @Override
  public int colour() {
    return colour;
  }

  /** The class: {@code on-strong}. */
  String style() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }
}
