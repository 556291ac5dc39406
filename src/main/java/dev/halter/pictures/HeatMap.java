package dev.halter.pictures;

import dev.halter.pictures.Canvas.Anchor;
import dev.halter.pictures.Canvas.Role;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/**
 * Tables of numbers as coloured cells: to print as SVG or PNG, or to explore as a page.
 *
 * <p>All tables of a picture share one scale and one legend, so that a colour means one number
 * wherever it stands: two tables that are each coloured to their own largest value look alike even
 * where all of one is noise beside the other. Scales are linear, and where values have signs
 * symmetric around 0. What is large is written into its cell, so that a copy without colours can be
 * read.
 */
public record HeatMap(String title, List<String> notes, Scale scale, List<Panel> panels) {
  /**
   * What colours mean.
   *
   * @param signed whether values have signs
   * @param unit of the values, such as "%", or empty
   * @param decimals digits after the point that are shown
   * @param limit the value at the end of the scale, above 0; larger ones have its colour
   */
  public record Scale(boolean signed, String unit, int decimals, double limit) {
    /** A scale that ends at the largest absolute value of all panels; at 1 if there is none. */
    public static Scale of(boolean signed, String unit, int decimals, List<Panel> panels) {
      double largest = largest(panels);
      return new Scale(signed, unit, decimals, largest > 0 ? largest : 1);
    }

    /** A value that is not signed is blue: orange stands for "more than 0" only. */
    private Shade shade(double value) {
      return new Shade(signed ? value / limit : -value / limit);
    }

    private String number(double value) {
      String text = String.format(Locale.ROOT, "%." + decimals + "f", Math.abs(value));
      boolean zero = text.chars().allMatch(c -> c == '0' || c == '.');
      return (signed && !zero ? value < 0 ? "−" : "+" : "") + text;
    }

    private String withUnit(double value) {
      return number(value) + (unit.isEmpty() ? "" : " " + unit);
    }
  }

  /**
   * One table. NaN is an empty cell.
   *
   * @param rowName what a row is, such as "layer"
   * @param values [row][column]
   */
  public record Panel(
      String title,
      String rowName,
      String columnName,
      List<String> rows,
      List<String> columns,
      double[][] values) {}

  private static final double LABEL = 10.5; // sizes of type
  private static final double SMALLEST = 6;
  private static final double TITLE_HEIGHT = 20;
  private static final double LEGEND_WIDTH = 240;
  private static final int LEGEND_STEPS = 60;
  private static final int LONGEST_LABEL = 18; // letters

  /** Values below this share of the scale are not written into their cells. */
  private static final double WRITTEN = 0.05;

  private static double largest(List<Panel> panels) {
    double largest = 0;
    for (Panel panel : panels) {
      for (double[] row : panel.values) {
        for (double value : row) {
          largest = Math.abs(value) > largest ? Math.abs(value) : largest;
        }
      }
    }
    return largest;
  }

  /**
   * Writes the picture as .svg, .png or .html, by the file's ending.
   *
   * @throws IllegalArgumentException for another ending
   */
  public void write(Path file) {
    file().write(file);
  }

  /** Writes the picture as a page, whatever the file's name. */
  public void writeHtml(Path file) {
    file().writeHtml(file);
  }

  private PictureFile file() {
    double cell = cellWidth();
    List<Figure> tables = panels.stream().map(panel -> new Table(panel, cell).figure()).toList();
    Figure legend = new Figure("Legend", LEGEND_WIDTH + 2, 34, this::drawLegend);
    return new PictureFile(title, notes, List.of(tables, List.of(legend)));
  }

  /** So that three panels stand side by side, if numbers can still be read in their cells. */
  private double cellWidth() {
    int abreast = Math.min(3, panels.size());
    int columns = panels.stream().limit(abreast).mapToInt(panel -> panel.columns.size()).sum();
    int most = panels.stream().mapToInt(panel -> panel.columns.size()).max().orElse(1);
    return Math.clamp(Math.floor((860.0 - 70 * abreast) / columns), most > 36 ? 14 : 26, 46);
  }

  /** A panel and where its parts are. */
  private final class Table {
    private final Panel panel;
    private final double cellWidth;
    private final double cellHeight;
    private final double left; // of the cells
    private final double top;
    private final boolean turned; // names of columns

    Table(Panel panel, double cellWidth) {
      this.panel = panel;
      this.cellWidth = cellWidth;
      this.cellHeight = Math.clamp(Math.floor(cellWidth * 0.7), 14, 30);
      this.left = 8 + Math.max(longest(panel.rows), Font.sans().width(panel.rowName, LABEL));
      this.turned = panel.columns.stream().anyMatch(name -> name.length() > 3);
      this.top = TITLE_HEIGHT + (turned ? 8 + longest(panel.columns) : 18);
    }

    private static double longest(List<String> labels) {
      return labels.stream()
          .mapToDouble(label -> Font.sans().width(cut(label), LABEL))
          .max()
          .orElse(0);
    }

    private static String cut(String label) {
      return label.codePointCount(0, label.length()) <= LONGEST_LABEL
          ? label
          : label.substring(0, label.offsetByCodePoints(0, LONGEST_LABEL - 1)) + "…";
    }

    Figure figure() {
      double width =
          Math.max(left + panel.columns.size() * cellWidth, Font.sans().width(panel.title, 12) + 2);
      return new Figure(panel.title, width, top + panel.rows.size() * cellHeight, this::draw);
    }

    private void draw(Canvas canvas, double x, double y) {
      canvas.text(x, y + 12, 12, Anchor.START, Ink.TEXT, panel.title);
      drawColumnNames(canvas, x + left, y + top - 6);
      canvas.group(
          Role.GRID,
          panel.title,
          () -> {
            for (int row = 0; row < panel.rows.size(); row++) {
              drawRow(canvas, row, x + left, y + top + row * cellHeight);
            }
          });
      canvas.group(Role.ROWHEADERS, null, () -> drawRowNames(canvas, x, y + top));
    }

    private void drawColumnNames(Canvas canvas, double x, double base) {
      int every = turned ? 1 : every();
      for (int column = 0; column < panel.columns.size(); column += every) {
        String name = cut(panel.columns.get(column));
        double middle = x + (column + 0.5) * cellWidth;
        if (turned) {
          canvas.textUpwards(middle + 0.36 * LABEL, base, LABEL, Ink.FAINT, name);
        } else {
          canvas.text(middle, base, LABEL, Anchor.MIDDLE, Ink.FAINT, name);
        }
      }
    }

    /** Only every so many names of columns have room. */
    private int every() {
      int every = 1;
      while (every * cellWidth < longest(panel.columns) + 4) {
        every *= 2;
      }
      return every;
    }

    private void drawRowNames(Canvas canvas, double x, double y) {
      double height = panel.rows.size() * cellHeight;
      canvas.rectangle(x, y - 18, left - 2, 18 + height, Ink.PAPER, null);
      double right = x + left - 7;
      canvas.text(right, y - 6, LABEL, Anchor.END, Ink.FAINT, panel.rowName);
      for (int row = 0; row < panel.rows.size(); row++) {
        double base = y + (row + 0.5) * cellHeight + 3.5;
        canvas.text(right, base, LABEL, Anchor.END, Ink.FAINT, cut(panel.rows.get(row)));
      }
    }

    private void drawRow(Canvas canvas, int row, double x, double y) {
      canvas.group(
          Role.ROW,
          null,
          () -> {
            for (int column = 0; column < panel.columns.size(); column++) {
              Shade shade = scale.shade(panel.values[row][column]);
              double left = x + column * cellWidth;
              canvas.rectangle(left, y, cellWidth - 1, cellHeight - 1, shade, name(row, column));
            }
          });
      for (int column = 0; column < panel.columns.size(); column++) {
        double value = panel.values[row][column];
        String text = scale.number(value);
        double room = (cellWidth - 3) / Font.sans().width(text, 1);
        double size = Math.min(11, room);
        if (Math.abs(value) >= WRITTEN * scale.limit && size >= SMALLEST) {
          double base = y + (cellHeight - 1) / 2 + 0.36 * size;
          double middle = x + column * cellWidth + (cellWidth - 1) / 2;
          canvas.text(middle, base, size, Anchor.MIDDLE, scale.shade(value).ink(), text);
        }
      }
    }

    private String name(int row, int column) {
      double value = panel.values[row][column];
      return "%s %s, %s %s: %s"
          .formatted(
              panel.rowName,
              panel.rows.get(row),
              panel.columnName,
              panel.columns.get(column),
              Double.isNaN(value) ? "not measured" : scale.withUnit(value));
    }
  }

  private void drawLegend(Canvas canvas, double x, double y) {
    double step = LEGEND_WIDTH / LEGEND_STEPS;
    double low = scale.signed ? -scale.limit : 0;
    for (int i = 0; i < LEGEND_STEPS; i++) {
      double value = low + (i + 0.5) / LEGEND_STEPS * (scale.limit - low);
      // A little over each other, so that no gap shows between them.
      double width = i == LEGEND_STEPS - 1 ? step : step + 0.5;
      canvas.rectangle(x + i * step, y + 2, width, 10, scale.shade(value), null);
    }
    boolean beyond = largest(panels) > scale.limit;
    double base = y + 25;
    String end = scale.withUnit(scale.limit) + (beyond ? " or more" : "");
    canvas.text(x + LEGEND_WIDTH, base, LABEL, Anchor.END, Ink.FAINT, end);
    if (scale.signed) {
      String start = scale.withUnit(-scale.limit) + (beyond ? " or less" : "");
      canvas.text(x, base, LABEL, Anchor.START, Ink.FAINT, start);
      canvas.text(x + LEGEND_WIDTH / 2, base, LABEL, Anchor.MIDDLE, Ink.FAINT, "0");
    } else {
      canvas.text(x, base, LABEL, Anchor.START, Ink.FAINT, "0");
    }
  }
}
