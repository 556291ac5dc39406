package dev.halter.pictures;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32;
import java.util.zip.DeflaterOutputStream;

/**
 * Draws a PNG of three pixels for each px of the picture, sharp at 300 dpi, without AWT, which
 * would double what a bundled Java runtime weighs and needs the system's font configuration.
 */
final class PngCanvas implements Canvas {
  private static final int SCALE = 3;
  private static final int MOST_PIXELS = 200_000_000;
  private static final double DASH = 5;
  private static final double DASH_AND_GAP = 9;

  private final int width;
  private final int height;
  private final byte[] pixels;

  PngCanvas(double width, double height) {
    long area = (long) Math.ceil(width * SCALE) * (long) Math.ceil(height * SCALE);
    if (area > MOST_PIXELS) {
      throw new IllegalArgumentException(
          "the picture is %,.0f by %,.0f: write it as .svg instead".formatted(width, height));
    }
    this.width = (int) Math.ceil(width * SCALE);
    this.height = (int) Math.ceil(height * SCALE);
    this.pixels = new byte[3 * this.width * this.height];
    Arrays.fill(pixels, (byte) 255);
  }

  @Override
  public void group(Role role, String name, Runnable shapes) {
    shapes.run();
  }

  @Override
  public void rectangle(double x, double y, double w, double h, Paint paint, String name) {
    int right = (int) Math.min(width, Math.round((x + w) * SCALE));
    int bottom = (int) Math.min(height, Math.round((y + h) * SCALE));
    for (int row = (int) Math.max(0, Math.round(y * SCALE)); row < bottom; row++) {
      for (int column = (int) Math.max(0, Math.round(x * SCALE)); column < right; column++) {
        blend(column, row, paint.colour(), 1);
      }
    }
  }

  @Override
  public void dot(double x, double y, double radius, Paint paint, String name) {
    segment(x, y, x, y, radius, paint.colour());
  }

  @Override
  public void line(double[] points, double width, boolean dashed, Ink ink) {
    for (int i = 0; i + 3 < points.length; i += 2) {
      double dx = points[i + 2] - points[i];
      double dy = points[i + 3] - points[i + 1];
      double length = Math.hypot(dx, dy);
      for (double from = 0; from < length; from += dashed ? DASH_AND_GAP : length) {
        double to = dashed ? Math.min(length, from + DASH) : length;
        segment(
            points[i] + from / length * dx,
            points[i + 1] + from / length * dy,
            points[i] + to / length * dx,
            points[i + 1] + to / length * dy,
            width / 2,
            ink.colour());
      }
    }
  }

  @Override
  public void text(double x, double y, double size, Anchor anchor, Ink ink, String text) {
    double length = Font.sans().width(text, size);
    double start =
        switch (anchor) {
          case START -> x;
          case MIDDLE -> x - length / 2;
          case END -> x - length;
        };
    List<double[]> outlines = Font.sans().outlines(text, size);
    for (double[] outline : outlines) {
      for (int i = 0; i < outline.length; i += 2) {
        outline[i] = SCALE * (start + outline[i]);
        outline[i + 1] = SCALE * (y + outline[i + 1]);
      }
    }
    fill(outlines, ink.colour());
  }

  @Override
  public void textUpwards(double x, double y, double size, Ink ink, String text) {
    List<double[]> outlines = Font.sans().outlines(text, size);
    for (double[] outline : outlines) {
      for (int i = 0; i < outline.length; i += 2) {
        double along = outline[i];
        outline[i] = SCALE * (x + outline[i + 1]);
        outline[i + 1] = SCALE * (y - along);
      }
    }
    fill(outlines, ink.colour());
  }

  /**
   * Fills polygons, in pixels. Each edge adds to the pixels that it crosses how much of them lies
   * right of it, and to the next what is left of 1; summed along a row that is how much of each
   * pixel is inside (as in Raph Levien's font-rs).
   */
  private void fill(List<double[]> polygons, int colour) {
    if (polygons.isEmpty()) {
      return;
    }
    double[] box = box(polygons);
    int left = (int) Math.floor(box[0]) - 1;
    int top = (int) Math.floor(box[1]) - 1;
    int columns = (int) Math.ceil(box[2]) + 2 - left;
    int rows = (int) Math.ceil(box[3]) + 2 - top;
    double[] covered = new double[rows * columns];
    for (double[] polygon : polygons) {
      double x = polygon[polygon.length - 2];
      double y = polygon[polygon.length - 1];
      for (int i = 0; i < polygon.length; i += 2) {
        cover(covered, columns, x - left, y - top, polygon[i] - left, polygon[i + 1] - top);
        x = polygon[i];
        y = polygon[i + 1];
      }
    }
    for (int row = 0; row < rows; row++) {
      double sum = 0;
      for (int column = 0; column < columns; column++) {
        sum += covered[row * columns + column];
        int x = left + column;
        int y = top + row;
        if (x >= 0 && x < width && y >= 0 && y < height) {
          blend(x, y, colour, Math.min(1, Math.abs(sum)));
        }
      }
    }
  }

  /** Least x and y, largest x and y. */
  private static double[] box(List<double[]> polygons) {
    double[] box = {1e9, 1e9, -1e9, -1e9};
    for (double[] polygon : polygons) {
      for (int i = 0; i < polygon.length; i++) {
        box[i % 2] = Math.min(box[i % 2], polygon[i]);
        box[2 + i % 2] = Math.max(box[2 + i % 2], polygon[i]);
      }
    }
    return box;
  }

  private static void cover(
      double[] covered, int columns, double x0, double y0, double x1, double y1) {
    if (y0 == y1) {
      return;
    }
    double low = Math.min(y0, y1);
    double high = Math.max(y0, y1);
    double slope = (x1 - x0) / (y1 - y0);
    double x = y0 < y1 ? x0 : x1;
    for (int row = (int) low; row < high; row++) {
      double tall = Math.min(row + 1, high) - Math.max(row, low);
      double next = x + slope * tall;
      coverRow(
          covered, row * columns, Math.min(x, next), Math.max(x, next), y0 < y1 ? tall : -tall);
      x = next;
    }
  }

  /** An edge within a row of pixels, from {@code left} to {@code right} and {@code tall} high. */
  private static void coverRow(double[] covered, int row, double left, double right, double tall) {
    int first = (int) left;
    int last = Math.max(first, (int) Math.ceil(right) - 1);
    double before = 0; // of the edge's height, what the pixels up to here have
    for (int pixel = first; pixel <= last; pixel++) {
      double from = Math.max(left, pixel);
      double to = Math.min(right, pixel + 1);
      // The share of the edge within this pixel, and how much of the pixel is right of it.
      double share = right == left ? 1 : (to - from) / (right - left);
      double rightOf = pixel + 1 - (from + to) / 2;
      covered[row + pixel] += tall * (before + share * rightOf);
      before = share * (1 - rightOf);
    }
    covered[row + last + 1] += tall * before;
  }

  /** A line of a round pen, from (x0, y0) to (x1, y1). */
  private void segment(double x0, double y0, double x1, double y1, double radius, int colour) {
    double ax = x0 * SCALE;
    double ay = y0 * SCALE;
    double dx = x1 * SCALE - ax;
    double dy = y1 * SCALE - ay;
    double pen = radius * SCALE;
    double squared = dx * dx + dy * dy;
    int top = (int) Math.floor(Math.min(ay, ay + dy) - pen - 1);
    int bottom = (int) Math.ceil(Math.max(ay, ay + dy) + pen + 1);
    int left = (int) Math.floor(Math.min(ax, ax + dx) - pen - 1);
    int right = (int) Math.ceil(Math.max(ax, ax + dx) + pen + 1);
    for (int row = Math.max(0, top); row < Math.min(height, bottom); row++) {
      for (int column = Math.max(0, left); column < Math.min(width, right); column++) {
        double px = column + 0.5 - ax;
        double py = row + 0.5 - ay;
        double along = squared == 0 ? 0 : Math.max(0, Math.min(1, (px * dx + py * dy) / squared));
        double distance = Math.hypot(px - along * dx, py - along * dy);
        blend(column, row, colour, Math.max(0, Math.min(1, pen + 0.5 - distance)));
      }
    }
  }

  private void blend(int column, int row, int colour, double cover) {
    int at = 3 * (row * width + column);
    for (int channel = 0; channel < 3; channel++) {
      int under = pixels[at + channel] & 0xff;
      int over = colour >> (16 - 8 * channel) & 0xff;
      pixels[at + channel] = (byte) Math.round(under + cover * (over - under));
    }
  }

  /** The whole file: RGB, 8 bits a channel, at 288 pixels an inch. */
  byte[] document() {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (DataOutputStream png = new DataOutputStream(bytes)) {
      png.write(new byte[] {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'});
      chunk(
          png,
          "IHDR",
          out -> {
            out.writeInt(width);
            out.writeInt(height);
            out.write(new byte[] {8, 2, 0, 0, 0});
          });
      int perMetre = (int) Math.round(96 * SCALE / 0.0254);
      chunk(
          png,
          "pHYs",
          out -> {
            out.writeInt(perMetre);
            out.writeInt(perMetre);
            out.write(1);
          });
      chunk(
          png,
          "IDAT",
          out -> {
            try (DeflaterOutputStream rows = new DeflaterOutputStream(out)) {
              for (int row = 0; row < height; row++) {
                rows.write(0);
                rows.write(pixels, 3 * width * row, 3 * width);
              }
            }
          });
      chunk(png, "IEND", out -> {});
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return bytes.toByteArray();
  }

  private interface Chunk {
    void write(DataOutputStream out) throws IOException;
  }

  private static void chunk(DataOutputStream png, String type, Chunk content) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    bytes.write(type.getBytes(StandardCharsets.US_ASCII));
    content.write(new DataOutputStream(bytes));
    CRC32 crc = new CRC32();
    crc.update(bytes.toByteArray());
    png.writeInt(bytes.size() - 4);
    bytes.writeTo(png);
    png.writeInt((int) crc.getValue());
  }
}
