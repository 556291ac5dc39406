package dev.halter.pictures;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * DejaVu Sans, which comes with Halter: widths and outlines of letters, read from its TrueType file
 * (Apple's and Microsoft's OpenType specification: glyf, loca, cmap format 12, hmtx).
 *
 * <p>A font of our own, and no AWT, because the JDK's fonts are only as good as the machine: small
 * containers have no fontconfig, and a runtime without java.desktop no fonts at all. So a picture
 * is the same, to the bit, wherever it is drawn. Letters that DejaVu lacks, such as Chinese ones,
 * are a box; SVG and pages leave them to the reader's fonts.
 */
final class Font {
  private static final int MOST_DEPTH = 4; // of glyphs made of glyphs

  // Flags of the parts of a compound glyph.
  private static final int WORDS = 0x1;
  private static final int OFFSETS = 0x2;
  private static final int SCALE = 0x8;
  private static final int MORE = 0x20;
  private static final int TWO_SCALES = 0x40;
  private static final int MATRIX = 0x80;

  private static final class Sans {
    private static final Font FONT = read("DejaVuSans.ttf");
  }

  private final ByteBuffer file;
  private final int glyphs; // places of tables
  private final int places;
  private final int letters;
  private final int advances;
  private final int advanceCount;
  private final boolean longPlaces;
  private final double em; // units

  private Font(ByteBuffer file) {
    this.file = file;
    this.glyphs = table("glyf");
    this.places = table("loca");
    this.letters = letters();
    this.advances = table("hmtx");
    this.advanceCount = unsigned(table("hhea") + 34);
    int head = table("head");
    this.longPlaces = file.getShort(head + 50) != 0;
    this.em = unsigned(head + 18);
  }

  static Font sans() {
    return Sans.FONT;
  }

  private static Font read(String name) {
    try (InputStream in = Font.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException("the font " + name + " is missing: build Halter again");
      }
      return new Font(ByteBuffer.wrap(in.readAllBytes()));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private int unsigned(int place) {
    return Short.toUnsignedInt(file.getShort(place));
  }

  private int table(String name) {
    int wanted = ByteBuffer.wrap(name.getBytes(StandardCharsets.US_ASCII)).getInt();
    for (int i = 0; i < unsigned(4); i++) {
      if (file.getInt(12 + 16 * i) == wanted) {
        return file.getInt(12 + 16 * i + 8);
      }
    }
    throw new IllegalStateException("the font has no table " + name);
  }

  /** The table of format 12: groups of letters whose glyphs follow each other. */
  private int letters() {
    int map = table("cmap");
    for (int i = 0; i < unsigned(map + 2); i++) {
      int place = map + file.getInt(map + 4 + 8 * i + 4);
      if (unsigned(place) == 12) {
        return place;
      }
    }
    throw new IllegalStateException("the font's cmap has no format 12");
  }

  /** 0, the box, for a letter that is not there. */
  private int glyph(int letter) {
    int low = 0;
    int high = file.getInt(letters + 12) - 1;
    while (low <= high) {
      int middle = (low + high) >>> 1;
      int group = letters + 16 + 12 * middle;
      if (letter < file.getInt(group)) {
        high = middle - 1;
      } else if (letter > file.getInt(group + 4)) {
        low = middle + 1;
      } else {
        return file.getInt(group + 8) + letter - file.getInt(group);
      }
    }
    return 0;
  }

  private int advance(int glyph) {
    return unsigned(advances + 4 * Math.min(glyph, advanceCount - 1));
  }

  /** How wide a text is at a size. */
  double width(String text, double size) {
    return text.codePoints().map(this::glyph).map(this::advance).sum() * size / em;
  }

  /**
   * A text's outlines with its base line's beginning at (0, 0), y downwards.
   *
   * @return closed polygons of x, y, x, y, …; what is left of them by their turning is inside
   */
  List<double[]> outlines(String text, double size) {
    List<double[]> outlines = new ArrayList<>();
    double scale = size / em;
    double x = 0;
    for (int letter : text.codePoints().toArray()) {
      int glyph = glyph(letter);
      add(glyph, new double[] {scale, 0, 0, -scale, x, 0}, outlines, 0);
      x += advance(glyph) * scale;
    }
    return outlines;
  }

  /**
   * Adds a glyph's outlines.
   *
   * @param matrix a, b, c, d, e, f: a point (x, y) of the glyph goes to (a x + c y + e, b x + d y +
   *     f)
   */
  private void add(int glyph, double[] matrix, List<double[]> outlines, int depth) {
    int at = glyphs + place(glyph);
    if (place(glyph + 1) == place(glyph)) {
      return; // such as a space
    }
    int contours = file.getShort(at);
    if (contours >= 0) {
      addSimple(at, contours, matrix, outlines);
    } else if (depth < MOST_DEPTH) {
      addCompound(at + 10, matrix, outlines, depth + 1);
    }
  }

  private int place(int glyph) {
    return longPlaces ? file.getInt(places + 4 * glyph) : 2 * unsigned(places + 2 * glyph);
  }

  private void addCompound(int start, double[] matrix, List<double[]> outlines, int depth) {
    int at = start;
    int flags;
    do {
      flags = unsigned(at);
      int part = unsigned(at + 2);
      at += 4;
      boolean words = (flags & WORDS) != 0;
      double dx = words ? file.getShort(at) : file.get(at);
      double dy = words ? file.getShort(at + 2) : file.get(at + 1);
      at += words ? 4 : 2;
      if ((flags & OFFSETS) == 0) {
        throw new IllegalStateException("the font places parts by points, which is not read");
      }
      double[] own = {1, 0, 0, 1, dx, dy};
      if ((flags & SCALE) != 0) {
        own[0] = own[3] = fraction(at);
        at += 2;
      } else if ((flags & TWO_SCALES) != 0) {
        own[0] = fraction(at);
        own[3] = fraction(at + 2);
        at += 4;
      } else if ((flags & MATRIX) != 0) {
        for (int i = 0; i < 4; i++) {
          own[i] = fraction(at + 2 * i);
        }
        at += 8;
      }
      add(part, product(matrix, own), outlines, depth);
    } while ((flags & MORE) != 0);
  }

  /** A number of 14 bits after the point. */
  private double fraction(int place) {
    return file.getShort(place) / (double) (1 << 14);
  }

  private static double[] product(double[] m, double[] n) {
    return new double[] {
      m[0] * n[0] + m[2] * n[1],
      m[1] * n[0] + m[3] * n[1],
      m[0] * n[2] + m[2] * n[3],
      m[1] * n[2] + m[3] * n[3],
      m[0] * n[4] + m[2] * n[5] + m[4],
      m[1] * n[4] + m[3] * n[5] + m[5]
    };
  }

  private void addSimple(int start, int contours, double[] m, List<double[]> outlines) {
    int[] ends = new int[contours];
    for (int i = 0; i < contours; i++) {
      ends[i] = unsigned(start + 10 + 2 * i);
    }
    int count = contours == 0 ? 0 : ends[contours - 1] + 1;
    int at = start + 10 + 2 * contours;
    at += 2 + unsigned(at); // instructions of hinting
    byte[] flags = new byte[count];
    for (int i = 0; i < count; i++) {
      flags[i] = file.get(at++);
      if ((flags[i] & 8) != 0) {
        int again = Byte.toUnsignedInt(file.get(at++));
        for (; again > 0; again--, i++) {
          flags[i + 1] = flags[i];
        }
      }
    }
    double[] x = new double[count];
    at = coordinates(at, flags, 2, 16, x);
    double[] y = new double[count];
    coordinates(at, flags, 4, 32, y);
    int first = 0;
    for (int end : ends) {
      Curve curve = new Curve();
      int length = end - first + 1;
      for (int i = 0; i < length; i++) {
        int point = first + i;
        curve.add(
            m[0] * x[point] + m[2] * y[point] + m[4],
            m[1] * x[point] + m[3] * y[point] + m[5],
            (flags[point] & 1) != 0);
      }
      outlines.add(curve.polygon());
      first = end + 1;
    }
  }

  /** Coordinates as differences of one byte, two, or none. */
  private int coordinates(int start, byte[] flags, int isByte, int isSameOrPositive, double[] to) {
    int at = start;
    double value = 0;
    for (int i = 0; i < flags.length; i++) {
      boolean set = (flags[i] & isSameOrPositive) != 0;
      if ((flags[i] & isByte) != 0) {
        int step = Byte.toUnsignedInt(file.get(at++));
        value += set ? step : -step;
      } else if (!set) {
        value += file.getShort(at);
        at += 2;
      }
      to[i] = value;
    }
    return at;
  }

  /**
   * A closed outline of points on it and control points of parabolas; between two control points
   * lies a point on it.
   */
  private static final class Curve {
    private static final int STEPS = 6;

    private record Point(double x, double y, boolean on) {
      Point middle(Point other) {
        return new Point((x + other.x) / 2, (y + other.y) / 2, true);
      }
    }

    private final List<Point> points = new ArrayList<>();

    void add(double x, double y, boolean on) {
      Point point = new Point(x, y, on);
      if (!on && !points.isEmpty() && !points.getLast().on) {
        points.add(points.getLast().middle(point));
      }
      points.add(point);
    }

    double[] polygon() {
      if (!points.getFirst().on && !points.getLast().on) {
        points.add(points.getLast().middle(points.getFirst()));
      }
      if (!points.getFirst().on) {
        points.addFirst(points.removeLast()); // which is on it
      }
      List<Double> flat = new ArrayList<>();
      int count = points.size();
      for (int i = 0; i < count; i++) {
        Point point = points.get(i);
        if (point.on) {
          flat.add(point.x);
          flat.add(point.y);
          continue;
        }
        Point from = points.get(i - 1);
        Point to = points.get((i + 1) % count);
        for (int step = 1; step < STEPS; step++) {
          double t = step / (double) STEPS;
          double s = 1 - t;
          flat.add(s * s * from.x + 2 * s * t * point.x + t * t * to.x);
          flat.add(s * s * from.y + 2 * s * t * point.y + t * t * to.y);
        }
      }
      return flat.stream().mapToDouble(Double::doubleValue).toArray();
    }
  }
}
