package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.Font;
import java.awt.font.FontRenderContext;
import java.awt.geom.Area;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.io.InputStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Widths and outlines of letters are those that the JDK reads from the same file. */
class FontTest {
  private static final int EM = 2048; // where hinting moves nothing

  private static final FontRenderContext EXACT = new FontRenderContext(null, true, true);

  private static Font jdk;

  @BeforeAll
  static void readByTheJdk() throws Exception {
    System.setProperty("java.awt.headless", "true");
    try (InputStream file = HeatMap.class.getResourceAsStream("DejaVuSans.ttf")) {
      jdk = Font.createFont(Font.TRUETYPE_FONT, file).deriveFont((float) EM);
    }
  }

  @Test
  void lettersAreThoseOfTheJdk() {
    // Of one part and of several, of turned parts, Greek, Cyrillic, arrows and marks.
    String letters = "AgQ0%@éÄőñΔλжЮ−→␣⏎⟨“”…·×✓";
    for (int letter : letters.codePoints().toArray()) {
      String text = Character.toString(letter);
      var glyphs = jdk.createGlyphVector(EXACT, text);
      assertTrue(jdk.canDisplay(letter), text);
      assertEquals(
          glyphs.getGlyphMetrics(0).getAdvanceX(),
          dev.halter.pictures.Font.sans().width(text, EM),
          1,
          text);
      Path2D ours = new Path2D.Double(Path2D.WIND_NON_ZERO);
      for (double[] outline : dev.halter.pictures.Font.sans().outlines(text, EM)) {
        ours.moveTo(outline[0], outline[1]);
        for (int i = 2; i < outline.length; i += 2) {
          ours.lineTo(outline[i], outline[i + 1]);
        }
        ours.closePath();
      }
      Area difference = new Area(ours);
      difference.exclusiveOr(new Area(glyphs.getOutline()));
      double share = points(difference) / (double) points(new Area(ours));
      assertTrue(share < 0.02, text + " differs in " + share);
    }
  }

  /** How many points of a grid lie inside. */
  private static int points(Area area) {
    Rectangle2D box = area.getBounds2D();
    int inside = 0;
    for (double x = box.getMinX() + 3; x < box.getMaxX(); x += 8) {
      for (double y = box.getMinY() + 3; y < box.getMaxY(); y += 8) {
        inside += area.contains(x, y) ? 1 : 0;
      }
    }
    return inside;
  }

  @Test
  void aLetterThatTheFontLacksIsItsBox() {
    double[] box = dev.halter.pictures.Font.sans().outlines("龍", 100).getFirst();
    double[] other = dev.halter.pictures.Font.sans().outlines("虎", 100).getFirst();
    assertEquals(java.util.Arrays.toString(box), java.util.Arrays.toString(other));
  }
}
