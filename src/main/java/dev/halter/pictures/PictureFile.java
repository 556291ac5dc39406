package dev.halter.pictures;

import dev.halter.files.WholeFile;
import dev.halter.pictures.Canvas.Anchor;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A picture's file: a title, notes, and figures from left to right in as many lines as they need.
 * As SVG or PNG it is one drawing on white; as a page each figure is the same SVG within the text,
 * in light or dark, and its named shapes are reached by pointer and arrow keys.
 */
public final class PictureFile {
  private static final double MARGIN = 16;
  private static final double GAP = 24; // between figures
  private static final double MOST_WIDTH = 980; // of a line, unless one figure is wider
  private static final double TITLE = 16; // sizes of type
  private static final double NOTE = 11.5;
  private static final double NOTE_LINE = 16;

  private final String title;
  private final List<String> notes;
  private final List<List<Figure>> groups;

  PictureFile(String title, List<String> notes, List<List<Figure>> groups) {
    this.title = title;
    this.notes = notes;
    this.groups = groups;
  }

  /** Whether a file's ending is one that pictures are written with: .svg, .png or .html. */
  public static boolean isOne(Path file) {
    return file.getFileName().toString().matches(".*\\.(svg|png|html)");
  }

  /**
   * Writes the picture by the file's ending; readers see the whole file or none.
   *
   * @throws IllegalArgumentException for another ending
   */
  void write(Path file) {
    if (!isOne(file)) {
      throw new IllegalArgumentException(
          "a picture is written as .svg, .png or .html, not as " + file);
    }
    String name = file.getFileName().toString();
    switch (name.substring(name.lastIndexOf('.'))) {
      case ".svg" -> {
        Layout layout = new Layout();
        SvgCanvas canvas = SvgCanvas.file(layout.width, layout.height, title);
        layout.draw(canvas);
        WholeFile.write(file, out -> out.write(canvas.document()));
      }
      case ".png" -> {
        Layout layout = new Layout();
        PngCanvas canvas = new PngCanvas(layout.width, layout.height);
        layout.draw(canvas);
        WholeFile.write(file, canvas.document());
      }
      default -> writeHtml(file);
    }
  }

  /** Writes the picture as a page, whatever the file's name. */
  void writeHtml(Path file) {
    Page.write(
        file,
        "picture",
        Map.of(
            "title", out -> out.write(SvgCanvas.escaped(title)),
            "notes", this::writeNotes,
            "figures", this::writeFigures));
  }

  private void writeNotes(Writer out) throws IOException {
    for (String note : notes) {
      out.write("<p>" + SvgCanvas.escaped(note) + "</p>\n");
    }
  }

  private void writeFigures(Writer out) throws IOException {
    for (List<Figure> group : groups) {
      out.write("<div class=\"figures\">\n");
      for (Figure figure : group) {
        SvgCanvas canvas = SvgCanvas.part(figure.width(), figure.height(), figure.title());
        figure.drawing().on(canvas, 0, 0);
        out.write("<figure>\n" + canvas.document() + "</figure>\n");
      }
      out.write("</div>\n");
    }
  }

  /** Where everything is in one drawing. */
  private final class Layout {
    /** Of a figure's upper left corner. */
    private record Place(double x, double y) {}

    private final List<String> lines = new ArrayList<>(); // of notes
    private final Map<Figure, Place> places = new LinkedHashMap<>();
    private final double width;
    private final double height;

    Layout() {
      double right = Font.sans().width(title, TITLE);
      for (String note : notes) {
        wrap(note);
      }
      for (String line : lines) {
        right = Math.max(right, Font.sans().width(line, NOTE));
      }
      double bottom = MARGIN + 20 + NOTE_LINE * lines.size() + 16 - GAP;
      for (List<Figure> group : groups) {
        double x = 0;
        double y = bottom + GAP;
        for (Figure figure : group) {
          if (x > 0 && x + figure.width() > MOST_WIDTH) {
            x = 0;
            y = bottom + GAP;
          }
          places.put(figure, new Place(MARGIN + x, y));
          x += figure.width() + GAP;
          right = Math.max(right, x - GAP);
          bottom = Math.max(bottom, y + figure.height());
        }
      }
      this.width = Math.ceil(2 * MARGIN + right);
      this.height = Math.ceil(bottom + MARGIN);
    }

    private void wrap(String note) {
      String line = "";
      for (String word : note.strip().split("\\s+")) {
        String longer = line.isEmpty() ? word : line + " " + word;
        if (!line.isEmpty() && Font.sans().width(longer, NOTE) > MOST_WIDTH) {
          lines.add(line);
          longer = word;
        }
        line = longer;
      }
      lines.add(line);
    }

    void draw(Canvas canvas) {
      canvas.rectangle(0, 0, width, height, Ink.PAPER, null);
      canvas.text(MARGIN, MARGIN + 14, TITLE, Anchor.START, Ink.TEXT, title);
      for (int i = 0; i < lines.size(); i++) {
        double base = MARGIN + 34 + NOTE_LINE * i;
        canvas.text(MARGIN, base, NOTE, Anchor.START, Ink.FAINT, lines.get(i));
      }
      places.forEach((figure, place) -> figure.drawing().on(canvas, place.x, place.y));
    }
  }
}
