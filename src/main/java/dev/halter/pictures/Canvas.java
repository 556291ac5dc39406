package dev.halter.pictures;

/** What a picture is drawn on; lengths in px of 1/96 inch, y downwards. */
sealed interface Canvas permits SvgCanvas, PngCanvas {
  /** Where a text's given point is. */
  enum Anchor {
    START,
    MIDDLE,
    END
  }

  /** What a group of shapes is, for pages; the names are those of ARIA. */
  enum Role {
    /** Of rows. */
    GRID,
    /** Of shapes with names, which are its cells. */
    ROW,
    /** Names of rows, which pages keep in view. */
    ROWHEADERS
  }

  /**
   * Shapes that belong together.
   *
   * @param name of the group, or null
   */
  void group(Role role, String name, Runnable shapes);

  /**
   * A filled rectangle.
   *
   * @param name what it stands for, for readers that can show it; or null
   */
  void rectangle(double x, double y, double width, double height, Paint paint, String name);

  /** A filled circle; {@code name} as above. */
  void dot(double x, double y, double radius, Paint paint, String name);

  /**
   * A line through points.
   *
   * @param points x, y, x, y, …
   */
  void line(double[] points, double width, boolean dashed, Ink ink);

  /** A line of text on the base line y. */
  void text(double x, double y, double size, Anchor anchor, Ink ink, String text);

  /** A line of text that reads from below to above and begins at (x, y), on its base line x. */
  void textUpwards(double x, double y, double size, Ink ink, String text);
}
