package dev.halter.pictures;

/**
 * A part of a picture that stays whole.
 *
 * @param title what pages call it
 */
record Figure(String title, double width, double height, Drawing drawing) {
  interface Drawing {
    /** Draws with the upper left corner at (x, y). */
    void on(Canvas canvas, double x, double y);
  }
}
