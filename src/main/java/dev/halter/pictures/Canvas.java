package dev.halter.pictures;

/** What a picture is drawn on; lengths in px of 1/96 inch, y downwards. */
sealed interface Canvas permits SvgCanvas, PngCanvas {
  /** Where a text's given point is. */
  enum Anchor {
    START,
    MIDDLE,
    END
  }

  /**
   * A filled rectangle.
   *
   * @param colour 0xRRGGBB
   * @param name what it stands for, for readers that can show it; or null
   */
  void rectangle(double x, double y, double width, double height, int colour, String name);

  /** A line of text on the base line y; capitals are about 0.7 of {@code size} high. */
  void text(double x, double y, double size, Anchor anchor, int colour, String text);
}
