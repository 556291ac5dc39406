package dev.halter.pictures;

import java.util.Formatter;
import java.util.Locale;

/**
 * Draws SVG that needs nothing but itself. Shapes have their colours as attributes, which any style
 * sheet beats, and say by classes what they are: so a page draws the same picture in the dark.
 */
final class SvgCanvas implements Canvas {
  private final Formatter svg = new Formatter(Locale.ROOT);

  private SvgCanvas(double width, double height, String named) {
    svg.format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %s %s\" width=\"%s\""
            + " height=\"%s\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" %s%n",
        number(width), number(height), number(width), number(height), named);
  }

  /** A file of its own, which for assistive technology is one image. */
  static SvgCanvas file(double width, double height, String title) {
    return new SvgCanvas(width, height, "role=\"img\"><title>%s</title>".formatted(escaped(title)));
  }

  /** A part of a page, whose shapes can be reached one by one. */
  static SvgCanvas part(double width, double height, String title) {
    return new SvgCanvas(
        width, height, "role=\"group\" aria-label=\"%s\">".formatted(escaped(title)));
  }

  @Override
  public void group(Role role, String name, Runnable shapes) {
    String label = name == null ? "" : " aria-label=\"" + escaped(name) + "\"";
    if (role == Role.ROWHEADERS) {
      svg.format("<g class=\"rowheaders\">%n");
    } else {
      svg.format("<g role=\"%s\"%s>%n", role.name().toLowerCase(Locale.ROOT), label);
    }
    shapes.run();
    svg.format("</g>%n");
  }

  @Override
  public void rectangle(double x, double y, double width, double height, Paint paint, String name) {
    svg.format(
        "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\"%s",
        number(x), number(y), number(width), number(height), fill(paint));
    end("rect", name);
  }

  @Override
  public void dot(double x, double y, double radius, Paint paint, String name) {
    svg.format(
        "<circle cx=\"%s\" cy=\"%s\" r=\"%s\"%s",
        number(x), number(y), number(radius), fill(paint));
    end("circle", name);
  }

  private void end(String element, String name) {
    if (name == null) {
      svg.format("/>%n");
    } else {
      svg.format(" role=\"gridcell\"><title>%s</title></%s>%n", escaped(name), element);
    }
  }

  @Override
  public void line(double[] points, double width, boolean dashed, Ink ink) {
    StringBuilder places = new StringBuilder();
    for (int i = 0; i < points.length; i += 2) {
      places.append(i == 0 ? "" : " ").append(number(points[i])).append(',');
      places.append(number(points[i + 1]));
    }
    svg.format(
        "<polyline points=\"%s\" fill=\"none\" stroke=\"#%06x\" stroke-width=\"%s\""
            + " stroke-linejoin=\"round\"%s class=\"line-%s\"/>%n",
        places,
        ink.colour(),
        number(width),
        dashed ? " stroke-dasharray=\"5 4\"" : "",
        ink.style());
  }

  @Override
  public void text(double x, double y, double size, Anchor anchor, Ink ink, String text) {
    text(x, y, size, anchor, ink, "", text);
  }

  @Override
  public void textUpwards(double x, double y, double size, Ink ink, String text) {
    String turn = " transform=\"rotate(-90 " + number(x) + " " + number(y) + ")\"";
    text(x, y, size, Anchor.START, ink, turn, text);
  }

  private void text(
      double x, double y, double size, Anchor anchor, Ink ink, String turn, String text) {
    svg.format(
        "<text x=\"%s\" y=\"%s\" font-size=\"%s\" text-anchor=\"%s\"%s%s>%s</text>%n",
        number(x),
        number(y),
        number(size),
        anchor.name().toLowerCase(Locale.ROOT),
        fill(ink),
        turn,
        escaped(text));
  }

  /** The attributes of a colour, and the classes by which a style sheet finds it. */
  private static String fill(Paint paint) {
    String colour = String.format(Locale.ROOT, " fill=\"#%06x\"", paint.colour());
    return colour
        + switch (paint) {
          case Ink ink -> " class=\"" + ink.style() + "\"";
          case Shade shade ->
              shade.isNone()
                  ? " class=\"none\""
                  : String.format(
                      Locale.ROOT,
                      " class=\"%s%s\" style=\"--part:%.1f%%\"",
                      shade.side(),
                      shade.isFar() ? " far" : "",
                      100 * shade.part());
        };
  }

  /** The whole document. */
  String document() {
    return svg + "</svg>\n";
  }

  private static String number(double value) {
    return value == Math.rint(value)
        ? Long.toString((long) value)
        : String.format(Locale.ROOT, "%.2f", value);
  }

  /** Text for an element or an attribute in double quotes; what XML cannot hold becomes U+FFFD. */
  static String escaped(String text) {
    return text.replaceAll(
            "[^\\t\\n\\r\\x20-\\uD7FF\\uE000-\\uFFFD\\x{10000}-\\x{10FFFF}]", "\uFFFD")
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\"", "&quot;");
  }
}
