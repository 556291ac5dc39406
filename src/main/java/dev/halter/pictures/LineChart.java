package dev.halter.pictures;

import dev.halter.pictures.Canvas.Anchor;
import dev.halter.pictures.Canvas.Role;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * A measured curve over an axis of numbers, maybe beside a level to compare it with: to print as
 * SVG or PNG, or to explore as a page. Both axes are linear, with ticks at round numbers; the
 * vertical one begins at 0.
 *
 * @param points by x
 * @param level a value of y to compare with; NaN for none
 * @param levelName what that is, written at its line
 */
public record LineChart(
    String title,
    List<String> notes,
    String xName,
    String yName,
    List<Point> points,
    double level,
    String levelName) {

  /**
   * A measured point.
   *
   * @param name what it shows, in words
   */
  public record Point(double x, double y, String name) {}

  private static final double WIDTH = 500;
  private static final double HEIGHT = 310;
  private static final double LEFT = 58;
  private static final double RIGHT = 14;
  private static final double TOP = 26;
  private static final double BOTTOM = 44;
  private static final double LABEL = 11;

  /**
   * Writes the picture as .svg, .png or .html, by the file's ending.
   *
   * @throws IllegalArgumentException for another ending
   */
  public void write(Path file) {
    Figure figure = new Figure(title, WIDTH, HEIGHT, this::draw);
    new PictureFile(title, notes, List.of(List.of(figure))).write(file);
  }

  /** An axis: a number's place, and round numbers to write at it. */
  record Axis(double low, double high, double from, double to, List<Double> ticks) {
    /** From the round number at or below {@code low} to the one at or above {@code high}. */
    static Axis around(double low, double high, double from, double to, int ticks) {
      double step = step(high > low ? (high - low) / ticks : Math.max(Math.abs(high), 1) / ticks);
      long first = (long) Math.floor(low / step + 1e-9);
      long last = Math.max(first + 1, (long) Math.ceil(high / step - 1e-9));
      List<Double> round = new ArrayList<>();
      for (long i = first; i <= last; i++) {
        round.add(i * step);
      }
      return new Axis(first * step, last * step, from, to, round);
    }

    /** 1, 2 or 5 times a power of ten, at least {@code least}. */
    private static double step(double least) {
      double power = Math.pow(10, Math.floor(Math.log10(least)));
      for (int factor : new int[] {1, 2, 5}) {
        if (factor * power >= least * (1 - 1e-9)) {
          return factor * power;
        }
      }
      return 10 * power;
    }

    double place(double value) {
      return from + (value - low) / (high - low) * (to - from);
    }

    /** As many digits as tell ticks apart. */
    String text(double tick) {
      double step = ticks.get(1) - ticks.get(0);
      int decimals = (int) Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      if (decimals > 6 || step >= 1e7) {
        return String.format(Locale.ROOT, "%.1e", tick).replace("-", "−");
      }
      String text = String.format(Locale.ROOT, "%." + decimals + "f", tick);
      return Math.abs(tick) < step / 2 ? text.replace("-", "") : text.replace("-", "−");
    }
  }

  private boolean hasLevel() {
    return !Double.isNaN(level);
  }

  private void draw(Canvas canvas, double left, double top) {
    double most = points.stream().mapToDouble(Point::y).max().orElse(0);
    Axis y =
        Axis.around(
            0, hasLevel() ? Math.max(most, level) : most, top + HEIGHT - BOTTOM, top + TOP, 5);
    Axis x =
        Axis.around(
            points.stream().mapToDouble(Point::x).min().orElse(0),
            points.stream().mapToDouble(Point::x).max().orElse(1),
            left + LEFT,
            left + WIDTH - RIGHT,
            8);
    drawAxes(canvas, x, y, left, top);

    if (hasLevel()) {
      double at = y.place(level);
      canvas.line(new double[] {x.from, at, x.to, at}, 1.2, true, Ink.FAINT);
    }
    double[] line = new double[2 * points.size()];
    for (int i = 0; i < points.size(); i++) {
      line[2 * i] = x.place(points.get(i).x);
      line[2 * i + 1] = y.place(points.get(i).y);
    }
    canvas.line(line, 2, false, Ink.ACCENT);
    if (hasLevel()) {
      drawLevelName(canvas, x, y, y.place(level));
    }
    canvas.group(
        Role.GRID,
        title,
        () ->
            canvas.group(
                Role.ROW,
                null,
                () -> {
                  for (Point point : points) {
                    canvas.dot(x.place(point.x), y.place(point.y), 4, Ink.ACCENT, point.name);
                  }
                }));
  }

  /** At the curve's lower end, above the line unless the curve is there and there is room below. */
  private void drawLevelName(Canvas canvas, Axis x, Axis y, double at) {
    boolean end = points.getLast().y < points.getFirst().y;
    double curve = (end ? points.getLast() : points.getFirst()).y;
    boolean below = curve > level && at + 16 < y.from;
    canvas.text(
        end ? x.to : x.from + 5,
        below ? at + 13 : at - 5,
        LABEL,
        end ? Anchor.END : Anchor.START,
        Ink.FAINT,
        levelName);
  }

  private void drawAxes(Canvas canvas, Axis x, Axis y, double left, double top) {
    for (double tick : y.ticks) {
      double at = y.place(tick);
      canvas.line(new double[] {x.from - 4, at, x.to, at}, 1, false, Ink.RULE);
      canvas.text(x.from - 8, at + 4, LABEL, Anchor.END, Ink.FAINT, y.text(tick));
    }
    for (double tick : x.ticks) {
      double at = x.place(tick);
      canvas.line(new double[] {at, y.from, at, y.from + 5}, 1, false, Ink.FAINT);
      canvas.text(at, y.from + 18, LABEL, Anchor.MIDDLE, Ink.FAINT, x.text(tick));
    }
    canvas.line(new double[] {x.from, y.to, x.from, y.from, x.to, y.from}, 1, false, Ink.FAINT);
    canvas.text(left, top + 12, LABEL, Anchor.START, Ink.TEXT, yName);
    canvas.text((x.from + x.to) / 2, y.from + 38, LABEL, Anchor.MIDDLE, Ink.TEXT, xName);
  }
}
