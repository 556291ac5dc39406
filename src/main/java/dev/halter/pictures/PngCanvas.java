package dev.halter.pictures;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.DeflaterOutputStream;

/**
 * Draws a PNG of three pixels for each px of the picture, sharp at 300 dpi, without AWT, which
 * would double what a bundled Java runtime weighs. Letters are strokes of a round pen.
 */
final class PngCanvas implements Canvas {
  private static final int SCALE = 3;
  private static final int MOST_PIXELS = 200_000_000;

  /** Height of a capital, of a text's size. */
  private static final double CAPITAL = 0.72;

  /** A step of the letters' grid to the right, of one downwards. */
  private static final double NARROW = 0.86;

  /**
   * Strokes of each letter: x, y, x, y, … on a grid of 4 by 8, the base line at 6. A line of the
   * resource is a letter and its strokes, each of its points two digits.
   */
  private static final Map<Integer, List<int[]>> LETTERS = letters();

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

  private static Map<Integer, List<int[]>> letters() {
    Map<Integer, List<int[]>> letters = new HashMap<>();
    try (InputStream file = PngCanvas.class.getResourceAsStream("letters.txt")) {
      String text = new String(file.readAllBytes(), StandardCharsets.UTF_8);
      for (String line : text.lines().toList()) {
        letters.put(
            line.codePointAt(0),
            Arrays.stream(line.substring(2).split(" "))
                .map(stroke -> stroke.chars().map(digit -> digit - '0').toArray())
                .toList());
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return letters;
  }

  @Override
  public void rectangle(double x, double y, double w, double h, int colour, String name) {
    int right = (int) Math.min(width, Math.round((x + w) * SCALE));
    int bottom = (int) Math.min(height, Math.round((y + h) * SCALE));
    for (int row = (int) Math.max(0, Math.round(y * SCALE)); row < bottom; row++) {
      for (int column = (int) Math.max(0, Math.round(x * SCALE)); column < right; column++) {
        blend(column, row, colour, 1);
      }
    }
  }

  @Override
  public void text(double x, double y, double size, Anchor anchor, int colour, String text) {
    double unit = size * CAPITAL / 6;
    double wide = unit * NARROW;
    double length = 0;
    for (int letter : text.codePoints().toArray()) {
      length += advance(letter);
    }
    double at =
        switch (anchor) {
          case START -> x;
          case MIDDLE -> x - length * wide / 2;
          case END -> x - length * wide;
        };
    for (int letter : text.codePoints().toArray()) {
      for (int[] stroke : strokes(letter)) {
        for (int i = 0; i + 3 < stroke.length; i += 2) {
          double left = at + wide * (0.9 - leftmost(letter));
          segment(
              left + wide * stroke[i],
              y + unit * (stroke[i + 1] - 6),
              left + wide * stroke[i + 2],
              y + unit * (stroke[i + 3] - 6),
              unit * 0.42,
              colour);
        }
      }
      at += advance(letter) * wide;
    }
  }

  /** A letter that there is no drawing of is a box. */
  private static List<int[]> strokes(int letter) {
    return letter == ' '
        ? List.of()
        : LETTERS.getOrDefault(letter, List.of(new int[] {0, 0, 4, 0, 4, 6, 0, 6, 0, 0}));
  }

  private static int leftmost(int letter) {
    int left = 4;
    for (int[] stroke : strokes(letter)) {
      for (int i = 0; i < stroke.length; i += 2) {
        left = Math.min(left, stroke[i]);
      }
    }
    return left;
  }

  private static double advance(int letter) {
    int right = 0;
    for (int[] stroke : strokes(letter)) {
      for (int i = 0; i < stroke.length; i += 2) {
        right = Math.max(right, stroke[i]);
      }
    }
    return letter == ' ' ? 3 : right - leftmost(letter) + 2;
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
