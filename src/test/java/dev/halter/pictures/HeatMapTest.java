package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.pictures.HeatMap.Panel;
import dev.halter.pictures.HeatMap.Scale;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** The same table as SVG, PNG and page: cells, colours and written values. */
class HeatMapTest {
  private static final double[][] EFFECTS = {{-12.5, 0.04, 6.25}, {3.1, Double.NaN, 12.5}};
  private static final List<Panel> PANELS =
      List.of(
          new Panel("Heads", "layer", "head", List.of("0", "1"), List.of("0", "1", "2"), EFFECTS),
          new Panel(
              "More",
              "layer",
              "part",
              List.of("0", "1"),
              List.of("</script>"),
              new double[][] {{0.5}, {25}}));

  private static final HeatMap PICTURE =
      new HeatMap(
          "Effects <of> heads & more", List.of("A note."), Scale.of(true, "%", 1, PANELS), PANELS);

  @TempDir Path folder;

  private Document svg(HeatMap picture) throws Exception {
    Path file = folder.resolve("picture.svg");
    picture.write(file);
    return DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file.toFile());
  }

  /** Rectangles that have a name, by it. */
  private static Map<String, Element> cells(Document svg) {
    Map<String, Element> cells = new HashMap<>();
    NodeList rectangles = svg.getElementsByTagName("rect");
    for (int i = 0; i < rectangles.getLength(); i++) {
      Element rectangle = (Element) rectangles.item(i);
      NodeList name = rectangle.getElementsByTagName("title");
      if (name.getLength() > 0) {
        cells.put(name.item(0).getTextContent(), rectangle);
      }
    }
    return cells;
  }

  private static int colour(Element cell) {
    return Integer.parseInt(cell.getAttribute("fill").substring(1), 16);
  }

  @Test
  void panelsShareOneScaleThatIsSymmetric() throws Exception {
    Map<String, Element> cells = cells(svg(PICTURE));
    assertEquals(8, cells.size(), cells.keySet().toString());
    int most = colour(cells.get("layer 1, part </script>: +25.0 %"));
    int half = colour(cells.get("layer 1, head 2: +12.5 %"));
    int low = colour(cells.get("layer 0, head 0: −12.5 %"));
    int zero = colour(cells.get("layer 0, head 1: 0.0 %"));
    int none = colour(cells.get("layer 1, head 1: not measured"));
    assertEquals(5, List.of(most, half, low, zero, none).stream().distinct().count());
    // Orange above 0, blue below, by the channels that colour-blind readers see too.
    assertTrue(red(most) > blue(most) + 60 && red(half) > blue(half) + 60);
    assertTrue(blue(low) > red(low) + 60);
    assertTrue(Math.abs(red(zero) - blue(zero)) < 20 && red(zero) > 220);
    assertTrue(luminance(half) > luminance(most) && luminance(zero) > luminance(half));
    // Half of the scale, although it is the most that its own panel has.
    assertEquals(new Shade(0.5).colour(), half);
  }

  @Test
  void aScaleThatEndsEarlierSaysSo() throws Exception {
    HeatMap picture = new HeatMap("Effects", List.of(), new Scale(true, "%", 1, 12.5), PANELS);
    Document svg = svg(picture);
    Map<String, Element> cells = cells(svg);
    assertEquals(
        colour(cells.get("layer 1, head 2: +12.5 %")),
        colour(cells.get("layer 1, part </script>: +25.0 %")));
    assertTrue(texts(svg).containsAll(List.of("+12.5 % or more", "−12.5 % or less", "+25.0")));
  }

  @Test
  void aScaleWithoutSignsIsBlueFromZero() throws Exception {
    HeatMap picture =
        new HeatMap("Weights", List.of(), new Scale(false, "", 2, 1), PANELS.subList(1, 2));
    Document svg = svg(picture);
    int half = colour(cells(svg).get("layer 0, part </script>: 0.50"));
    assertTrue(blue(half) > red(half) + 60, "no sign, one colour");
    assertTrue(texts(svg).containsAll(List.of("0", "1.00 or more")), texts(svg).toString());
  }

  private static int red(int colour) {
    return colour >> 16;
  }

  private static int blue(int colour) {
    return colour & 0xff;
  }

  private static double luminance(int colour) {
    return 0.3 * red(colour) + 0.59 * (colour >> 8 & 0xff) + 0.11 * blue(colour);
  }

  private static List<String> texts(Document svg) {
    NodeList nodes = svg.getElementsByTagName("text");
    List<String> texts = new ArrayList<>();
    for (int i = 0; i < nodes.getLength(); i++) {
      texts.add(nodes.item(i).getTextContent());
    }
    return texts;
  }

  @Test
  void largeValuesAndTheLegendAreWritten() throws Exception {
    List<String> texts = texts(svg(PICTURE));
    for (String text :
        List.of(
            "Effects <of> heads & more",
            "A note.",
            "−12.5",
            "+25.0",
            "+3.1",
            "−25.0 %",
            "+25.0 %")) {
      assertTrue(texts.contains(text), text + " in " + texts);
    }
    assertEquals(1, texts.stream().filter("−25.0 %"::equals).count(), "one legend");
    assertFalse(texts.contains("0.0"), "what is next to nothing is not");
  }

  @Test
  void thePngShowsTheColoursOfTheSvg() throws Exception {
    Path file = folder.resolve("picture.png");
    PICTURE.write(file);
    BufferedImage image = ImageIO.read(file.toFile());
    Document svg = svg(PICTURE);
    double width = Double.parseDouble(svg.getDocumentElement().getAttribute("width"));
    double height = Double.parseDouble(svg.getDocumentElement().getAttribute("height"));
    assertEquals(Math.ceil(3 * width), image.getWidth());
    assertEquals(Math.ceil(3 * height), image.getHeight());
    cells(svg)
        .forEach(
            (name, cell) -> {
              // Near the upper left corner, where nothing is written.
              int x = (int) (3 * Double.parseDouble(cell.getAttribute("x"))) + 4;
              int y = (int) (3 * Double.parseDouble(cell.getAttribute("y"))) + 4;
              assertEquals(colour(cell), image.getRGB(x, y) & 0xffffff, name);
            });
    int dark = 0;
    for (int x = 0; x < image.getWidth(); x++) {
      for (int y = 0; y < 90; y++) {
        dark += (image.getRGB(x, y) & 0xff) < 90 ? 1 : 0;
      }
    }
    assertTrue(dark > 500, "the title is drawn");
  }

  @Test
  void whatXmlCannotHoldIsReplaced() throws Exception {
    String odd = "a\u0001b\uD800c 🐕";
    Document svg =
        svg(new HeatMap(odd, List.of(odd), new Scale(true, "%", 1, 1), PANELS.subList(1, 2)));
    assertEquals("a\uFFFDb\uFFFDc 🐕", svg.getElementsByTagName("title").item(0).getTextContent());
  }

  @Test
  void otherEndingsAreRefused() {
    for (String name : List.of("picture.jpg", "picture", "png")) {
      IllegalArgumentException error =
          assertThrows(IllegalArgumentException.class, () -> PICTURE.write(folder.resolve(name)));
      assertTrue(error.getMessage().contains(name), error.getMessage());
    }
  }

  @Test
  void thePageHasTheDrawingAndItsCellsAreWalked() throws Exception {
    Path page = folder.resolve("picture.html");
    PICTURE.write(page);
    try (Browser browser = Browser.start(folder)) {
      browser.window(420, 800, false);
      browser.open(page, "");
      assertEquals("Effects <of> heads & more", browser.value("document.title"));
      assertEquals("8", browser.value("document.querySelectorAll('[role=gridcell]').length"));
      String readout = "document.getElementById('readout').textContent";
      browser.press("Tab");
      assertEquals("Heads, layer 0, head 0: −12.5 %", browser.value(readout));
      browser.press("ArrowRight");
      browser.press("ArrowDown");
      assertEquals("Heads, layer 1, head 1: not measured", browser.value(readout));
      browser.press("End");
      browser.press("ArrowRight"); // there is nothing
      assertEquals("Heads, layer 1, head 2: +12.5 %", browser.value(readout));
      browser.press("Tab");
      assertEquals("More, layer 0, part </script>: +0.5 %", browser.value(readout));
      String width = "getComputedStyle(document.activeElement).strokeWidth";
      assertEquals("2.5px", browser.value(width), "the focus is seen");
      String colour =
          "getComputedStyle(document.querySelector('[role=gridcell]')).fill"
              + " + getComputedStyle(document.querySelector('svg .text')).fill";
      String light = browser.value(colour);
      browser.window(420, 800, true);
      assertNotEquals(light, browser.value(colour), "dark has colours of its own");
    }
  }

  @Test
  void pagesFitNarrowAndWideWindows() throws Exception {
    List<String> tokens = Collections.nCopies(60, "␣unbelievably");
    double[][] values = new double[60][60];
    HeatMap wide =
        new HeatMap(
            "A title of some length about heads and tokens",
            List.of("unbelievably".repeat(20)),
            new Scale(false, "%", 0, 100),
            List.of(new Panel("Head 0.0", "from", "to", tokens, tokens, values)));
    Path page = folder.resolve("picture.html");
    wide.write(page);
    try (Browser browser = Browser.start(folder)) {
      for (int width : new int[] {420, 1200}) {
        browser.window(width, 800, false);
        browser.open(page, "");
        assertEquals("", browser.overflowing(), width + " px");
      }
      // What scrolls within the page keeps the names of its rows in view.
      browser.window(420, 800, false);
      browser.value("document.querySelector('figure').scrollLeft = 300");
      browser.until("document.querySelector('.rowheaders').getBoundingClientRect().left >= 0");
      browser.press("Tab");
      browser.press("End");
      String cell = "document.activeElement.getBoundingClientRect()";
      browser.until(cell + ".left >= 0 && " + cell + ".right <= innerWidth");
    }
  }
}
