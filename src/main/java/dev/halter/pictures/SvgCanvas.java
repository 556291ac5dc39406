package dev.halter.pictures;

import java.util.Locale;

/** Draws SVG that needs nothing but itself. */
final class SvgCanvas implements Canvas {
  private final StringBuilder svg = new StringBuilder();

  SvgCanvas(double width, double height, String title) {
    svg.append(
        String.format(
            Locale.ROOT,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %s %s\" width=\"%s\""
                + " height=\"%s\" role=\"img\" font-family=\"Helvetica, Arial, 'DejaVu Sans',"
                + " sans-serif\">%n<title>%s</title>%n",
            number(width),
            number(height),
            number(width),
            number(height),
            escaped(title)));
  }

  @Override
  public void rectangle(double x, double y, double width, double height, int colour, String name) {
    String shape =
        String.format(
            Locale.ROOT,
            "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" fill=\"#%06x\"",
            number(x),
            number(y),
            number(width),
            number(height),
            colour);
    svg.append(shape)
        .append(name == null ? "/>" : "><title>" + escaped(name) + "</title></rect>")
        .append('\n');
  }

  @Override
  public void text(double x, double y, double size, Anchor anchor, int colour, String text) {
    svg.append(
        String.format(
            Locale.ROOT,
            "<text x=\"%s\" y=\"%s\" font-size=\"%s\" text-anchor=\"%s\" fill=\"#%06x\">%s</text>%n",
            number(x),
            number(y),
            number(size),
            anchor.name().toLowerCase(Locale.ROOT),
            colour,
            escaped(text)));
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

  private static String escaped(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
  }
}
