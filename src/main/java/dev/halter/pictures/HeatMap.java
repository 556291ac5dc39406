package dev.halter.pictures;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.pictures.Canvas.Anchor;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/**
 * Tables of numbers as coloured cells: to print as SVG or PNG, or to explore as a page. Blue and
 * orange are told apart by colour-blind readers too; where values have signs the scale is symmetric
 * around 0, and what is large is written into its cell, so that a copy without colours can be read.
 */
public record HeatMap(String title, List<String> notes, List<Panel> panels) {
  /**
   * One table, coloured by its own scale, from 0 (or minus) to its largest value. NaN is an empty
   * cell.
   *
   * @param rowName what a row is, such as "layer"
   * @param values [row][column]
   * @param signed whether values have signs
   * @param unit of the values, such as "%", or empty
   * @param decimals digits after the point that are shown
   */
  public record Panel(
      String title,
      String rowName,
      String columnName,
      List<String> rows,
      List<String> columns,
      double[][] values,
      boolean signed,
      String unit,
      int decimals) {

    /** The largest absolute value, the end of the scale; 1 if there is none above 0. */
    public double limit() {
      double limit = 0;
      for (double[] row : values) {
        for (double value : row) {
          limit = Math.abs(value) > limit ? Math.abs(value) : limit;
        }
      }
      return limit == 0 ? 1 : limit;
    }

    private String number(double value) {
      String text = String.format(Locale.ROOT, "%." + decimals + "f", Math.abs(value));
      boolean zero = text.chars().allMatch(c -> c == '0' || c == '.');
      return (signed && !zero ? value < 0 ? "−" : "+" : "") + text;
    }

    private String withUnit(double value) {
      return number(value) + (unit.isEmpty() ? "" : " " + unit);
    }

    private String name(int row, int column) {
      return "%s %s, %s %s: %s"
          .formatted(
              rowName,
              rows.get(row),
              columnName,
              columns.get(column),
              Double.isNaN(values[row][column]) ? "not measured" : withUnit(values[row][column]));
    }
  }

  private static final int INK = 0x1f2328;
  private static final int FAINT = 0x5b626b;
  private static final int PAPER = 0xffffff;
  private static final int EMPTY = 0xdddddd;

  /** From the lowest value to the highest, at even distances. */
  private static final int[] SIGNED = {0x0b4a8a, 0x5f9fd4, 0xf4f3ee, 0xeea04f, 0xa2450a};

  private static final int[] UNSIGNED = {0xf4f3ee, 0x5f9fd4, 0x0b4a8a};

  private static final double MARGIN = 16;
  private static final double GAP = 28; // between panels
  private static final double LABEL = 30; // room for the names of rows
  private static final double LEGEND = 44;
  private static final double LEGEND_WIDTH = 150;

  /** Values below this share of the scale are not written into their cells. */
  private static final double WRITTEN = 0.1;

  /**
   * Writes the picture as .svg, .png or .html, by the file's ending.
   *
   * @throws IllegalArgumentException for another ending
   */
  public void write(Path file) {
    String name = file.getFileName().toString();
    switch (name.substring(Math.max(0, name.lastIndexOf('.')))) {
      case ".svg" -> {
        SvgCanvas canvas = new SvgCanvas(width(), height(), title);
        draw(canvas);
        WholeFile.write(file, out -> out.write(canvas.document()));
      }
      case ".png" -> {
        PngCanvas canvas = new PngCanvas(width(), height());
        draw(canvas);
        WholeFile.write(file, canvas.document());
      }
      case ".html" -> writeHtml(file);
      default ->
          throw new IllegalArgumentException(
              "a picture is written as .svg, .png or .html, not as " + file);
    }
  }

  /** Writes the picture as a page, whatever the file's name. */
  public void writeHtml(Path file) {
    Page.write(file, "heatmap", this::writeJson);
  }

  private double cellWidth() {
    int columns = panels.stream().mapToInt(panel -> panel.columns.size()).sum();
    return Math.clamp(Math.floor(720.0 / columns), 12, 48);
  }

  private double cellHeight() {
    return Math.clamp(Math.floor(cellWidth() * 0.7), 12, 30);
  }

  private double width(Panel panel) {
    return Math.max(panel.columns.size() * cellWidth(), LEGEND_WIDTH);
  }

  private double width() {
    double panelsWidth = LABEL + GAP * (panels.size() - 1);
    for (Panel panel : panels) {
      panelsWidth += width(panel);
    }
    double text = title.length() * 9.2;
    for (String note : notes) {
      text = Math.max(text, note.length() * 6.6);
    }
    return 2 * MARGIN + Math.max(panelsWidth, text);
  }

  private double top() {
    return MARGIN + 20 + 16 * notes.size() + 48;
  }

  private double height() {
    int rows = panels.stream().mapToInt(panel -> panel.rows.size()).max().orElse(0);
    return top() + rows * cellHeight() + LEGEND + MARGIN;
  }

  private void draw(Canvas canvas) {
    canvas.rectangle(0, 0, width(), height(), PAPER, null);
    canvas.text(MARGIN, MARGIN + 14, 16, Anchor.START, INK, title);
    for (int i = 0; i < notes.size(); i++) {
      canvas.text(MARGIN, MARGIN + 34 + 16 * i, 11.5, Anchor.START, FAINT, notes.get(i));
    }
    double x = MARGIN + LABEL;
    for (int i = 0; i < panels.size(); i++) {
      draw(canvas, panels.get(i), x, i == 0);
      x += width(panels.get(i)) + GAP;
    }
  }

  private void draw(Canvas canvas, Panel panel, double x, boolean rowNames) {
    double w = cellWidth();
    double h = cellHeight();
    double top = top();
    canvas.text(x, top - 22, 12, Anchor.START, INK, panel.title);
    int everyColumn = every(panel.columns, w);
    for (int column = 0; column < panel.columns.size(); column += everyColumn) {
      double middle = x + (column + 0.5) * w;
      canvas.text(middle, top - 6, 10.5, Anchor.MIDDLE, FAINT, panel.columns.get(column));
    }
    double limit = panel.limit();
    for (int row = 0; row < panel.rows.size(); row++) {
      double y = top + row * h;
      if (rowNames) {
        canvas.text(x - 8, y + h / 2 + 4, 10.5, Anchor.END, FAINT, panel.rows.get(row));
      }
      for (int column = 0; column < panel.columns.size(); column++) {
        double value = panel.values[row][column];
        double cellX = x + column * w;
        int colour = colour(panel, value / limit);
        canvas.rectangle(cellX, y, w - 1, h - 1, colour, panel.name(row, column));
        String text = panel.number(value);
        double size = Math.min(11, (w - 2) / (0.58 * text.length()));
        if (Math.abs(value) >= WRITTEN * limit && size >= 6) {
          int ink = isDark(colour) ? PAPER : INK;
          double base = y + (h - 1) / 2 + 0.36 * size;
          canvas.text(cellX + (w - 1) / 2, base, size, Anchor.MIDDLE, ink, text);
        }
      }
    }
    if (rowNames) {
      canvas.text(x - 8, top - 6, 10.5, Anchor.END, FAINT, panel.rowName);
    }
    drawLegend(canvas, panel, x, top + panel.rows.size() * h + 14);
  }

  private static void drawLegend(Canvas canvas, Panel panel, double x, double y) {
    int steps = 50;
    double step = LEGEND_WIDTH / steps;
    for (int i = 0; i < steps; i++) {
      double share = (i + 0.5) / steps;
      int colour = colour(panel, panel.signed ? 2 * share - 1 : share);
      // A little over each other, so that no gap shows between them.
      double width = i == steps - 1 ? step : step + 0.5;
      canvas.rectangle(x + i * step, y, width, 9, colour, null);
    }
    double limit = panel.limit();
    double base = y + 22;
    String low = panel.signed ? panel.withUnit(-limit) : "0";
    canvas.text(x, base, 10.5, Anchor.START, FAINT, low);
    if (panel.signed) {
      canvas.text(x + LEGEND_WIDTH / 2, base, 10.5, Anchor.MIDDLE, FAINT, "0");
    }
    canvas.text(x + LEGEND_WIDTH, base, 10.5, Anchor.END, FAINT, panel.withUnit(limit));
  }

  /** Only every so many names of columns have room. */
  private static int every(List<String> names, double width) {
    int longest = names.stream().mapToInt(String::length).max().orElse(1);
    int every = 1;
    while (every * width < 6.5 * longest + 3) {
      every *= 2;
    }
    return every;
  }

  /** Colour of a share of the scale, -1 to 1. */
  private static int colour(Panel panel, double share) {
    if (Double.isNaN(share)) {
      return EMPTY;
    }
    int[] colours = panel.signed ? SIGNED : UNSIGNED;
    double at = (panel.signed ? (share + 1) / 2 : share) * (colours.length - 1);
    int below = (int) Math.clamp(Math.floor(at), 0, colours.length - 2);
    int mixed = 0;
    for (int shift = 16; shift >= 0; shift -= 8) {
      int low = colours[below] >> shift & 0xff;
      int high = colours[below + 1] >> shift & 0xff;
      mixed |= (int) Math.round(low + (at - below) * (high - low)) << shift;
    }
    return mixed;
  }

  private static boolean isDark(int colour) {
    double light =
        0.299 * (colour >> 16 & 0xff) + 0.587 * (colour >> 8 & 0xff) + 0.114 * (colour & 0xff);
    return light < 130;
  }

  /** What heatmap.html draws. */
  private void writeJson(Writer out) throws IOException {
    try (JsonGenerator json = Json.to(out)) {
      json.writeStartObject();
      json.writeStringField("title", title);
      writeTexts(json, "notes", notes);
      json.writeArrayFieldStart("panels");
      for (Panel panel : panels) {
        json.writeStartObject();
        json.writeStringField("title", panel.title);
        json.writeStringField("row_name", panel.rowName);
        json.writeStringField("column_name", panel.columnName);
        writeTexts(json, "rows", panel.rows);
        writeTexts(json, "columns", panel.columns);
        json.writeBooleanField("signed", panel.signed);
        json.writeStringField("unit", panel.unit);
        json.writeNumberField("decimals", panel.decimals);
        json.writeNumberField("limit", panel.limit());
        json.writeArrayFieldStart("values");
        for (double[] row : panel.values) {
          json.writeStartArray();
          for (double value : row) {
            if (Double.isNaN(value)) {
              json.writeNull();
            } else {
              json.writeNumber((float) value);
            }
          }
          json.writeEndArray();
        }
        json.writeEndArray();
        json.writeEndObject();
      }
      json.writeEndArray();
      json.writeEndObject();
    }
  }

  private static void writeTexts(JsonGenerator json, String name, List<String> texts)
      throws IOException {
    json.writeArrayFieldStart(name);
    for (String text : texts) {
      json.writeString(text);
    }
    json.writeEndArray();
  }
}
