package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.pictures.Canvas.Anchor;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Letters, lines and dots as pixels, three for each px. */
class PngCanvasTest {
  private static final int SIZE = 60;

  private final PngCanvas canvas = new PngCanvas(SIZE, SIZE);

  /** How much ink each pixel has, 0 to 1. */
  private double[][] ink() throws IOException {
    BufferedImage image = ImageIO.read(new ByteArrayInputStream(canvas.document()));
    double[][] ink = new double[image.getHeight()][image.getWidth()];
    for (int y = 0; y < ink.length; y++) {
      for (int x = 0; x < ink[0].length; x++) {
        ink[y][x] = (255 - (image.getRGB(x, y) & 0xff)) / (255.0 - (Ink.TEXT.colour() & 0xff));
      }
    }
    return ink;
  }

  private static double sum(double[][] ink) {
    double sum = 0;
    for (double[] row : ink) {
      for (double pixel : row) {
        sum += pixel;
      }
    }
    return sum;
  }

  /** The area of polygons that do not cross themselves, holes turning the other way. */
  private static double area(String text, double size) {
    double twice = 0;
    for (double[] p : Font.sans().outlines(text, size)) {
      for (int i = 0; i < p.length; i += 2) {
        int next = (i + 2) % p.length;
        twice += p[i] * p[next + 1] - p[next] * p[i + 1];
      }
    }
    return Math.abs(twice / 2);
  }

  @ParameterizedTest
  @CsvSource({"START, 3.3, 0", "MIDDLE, 30.1, 0.5", "END, 57.2, 1"})
  void lettersHaveAsMuchInkAsTheirOutlinesHold(Anchor anchor, double x, double before)
      throws IOException {
    canvas.text(x, 40.2, 20, anchor, Ink.TEXT, "ogl%");
    double[][] ink = ink();
    double area = 9 * area("ogl%", 20);
    assertTrue(area > 500);
    assertEquals(area, sum(ink), 0.01 * area);
    // The l is an upright bar: from its left to its right edge full of ink.
    double start = x - Font.sans().width("ogl%", 20) * before;
    double middle = start + Font.sans().width("og", 20) + Font.sans().width("l", 20) / 2;
    assertEquals(1, ink[3 * 32][(int) (3 * middle)], 1e-9);
  }

  @Test
  void textUpwardsIsTheSameTurned() throws IOException {
    canvas.text(5, 30, 20, Anchor.START, Ink.TEXT, "Rg2");
    double[][] level = ink();
    PngCanvasTest other = new PngCanvasTest();
    other.canvas.textUpwards(30, SIZE - 5, 20, Ink.TEXT, "Rg2");
    double[][] turned = other.ink();
    assertTrue(sum(level) > 500);
    for (int y = 0; y < level.length; y++) {
      for (int x = 0; x < level.length; x++) {
        assertEquals(level[y][x], turned[level.length - 1 - x][y], 0.02, x + ", " + y);
      }
    }
  }

  @Test
  void linesAndDotsHaveTheirWidth() throws IOException {
    canvas.line(new double[] {10, 20, 50, 20}, 2, false, Ink.TEXT);
    double solid = sum(ink());
    assertEquals(9 * (40 * 2 + Math.PI), solid, 8, "with round ends");
    canvas.dot(30, 45, 5, Ink.TEXT, null);
    assertEquals(9 * Math.PI * 25, sum(ink()) - solid, 8);
    PngCanvasTest other = new PngCanvasTest();
    other.canvas.line(new double[] {10, 20, 50, 20}, 2, true, Ink.TEXT);
    double dashed = sum(other.ink());
    assertTrue(dashed > 0.5 * solid && dashed < 0.9 * solid, dashed + " of " + solid);
  }
}
