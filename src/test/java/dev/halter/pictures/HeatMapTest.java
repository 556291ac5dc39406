package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.pictures.HeatMap.Panel;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
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
  private static final HeatMap PICTURE =
      new HeatMap(
          "Effects <of> heads & more",
          List.of("A note."),
          List.of(
              new Panel(
                  "Heads",
                  "layer",
                  "head",
                  List.of("0", "1"),
                  List.of("0", "1", "2"),
                  EFFECTS,
                  true,
                  "%",
                  1),
              new Panel(
                  "Shares",
                  "layer",
                  "part",
                  List.of("0", "1"),
                  List.of("</script>"),
                  new double[][] {{0.5}, {1}},
                  false,
                  "",
                  2)));

  @TempDir Path folder;

  private Document svg() throws Exception {
    Path file = folder.resolve("picture.svg");
    PICTURE.write(file);
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
  void cellsOfTheSvgAreNamedAndColouredSymmetrically() throws Exception {
    Map<String, Element> cells = cells(svg());
    assertEquals(8, cells.size(), cells.keySet().toString());
    int most = colour(cells.get("layer 1, head 2: +12.5 %"));
    int half = colour(cells.get("layer 0, head 2: +6.3 %"));
    int least = colour(cells.get("layer 0, head 0: −12.5 %"));
    int zero = colour(cells.get("layer 0, head 1: 0.0 %"));
    int none = colour(cells.get("layer 1, head 1: not measured"));
    assertEquals(5, List.of(most, half, least, zero, none).stream().distinct().count());
    // Orange above 0, blue below, by the channels that colour-blind readers see too.
    assertTrue(red(most) > blue(most) + 60 && red(half) > blue(half) + 60);
    assertTrue(blue(least) > red(least) + 60);
    assertTrue(Math.abs(red(zero) - blue(zero)) < 20 && red(zero) > 220);
    assertTrue(luminance(half) > luminance(most) && luminance(zero) > luminance(half));
    // Shares start at 0, in their own scale.
    assertTrue(cells.containsKey("layer 1, part </script>: 1.00"), cells.keySet().toString());
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

  @Test
  void largeValuesAndTheLegendAreWritten() throws Exception {
    NodeList nodes = svg().getElementsByTagName("text");
    List<String> texts = new ArrayList<>();
    for (int i = 0; i < nodes.getLength(); i++) {
      texts.add(nodes.item(i).getTextContent());
    }
    for (String text :
        List.of(
            "Effects <of> heads & more",
            "A note.",
            "−12.5",
            "+12.5",
            "+3.1",
            "−12.5 %",
            "+12.5 %",
            "0.50")) {
      assertTrue(texts.contains(text), text + " in " + texts);
    }
    assertFalse(texts.contains("0.0"), "what is next to nothing is not");
  }

  @Test
  void thePngShowsTheColoursOfTheSvg() throws Exception {
    Path file = folder.resolve("picture.png");
    PICTURE.write(file);
    BufferedImage image = ImageIO.read(file.toFile());
    Document svg = svg();
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

  /** Every letter that pictures use has a drawing of its own. */
  @Test
  void lettersOfThePngDiffer() throws Exception {
    String letters =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:;%()/=+-−±'\"?!<>#*_[]Δ·×|→";
    List<Integer> drawn = new ArrayList<>();
    for (int letter : letters.codePoints().toArray()) {
      PngCanvas canvas = new PngCanvas(20, 24);
      canvas.text(4, 18, 18, Canvas.Anchor.START, 0, Character.toString(letter));
      drawn.add(Arrays.hashCode(canvas.document()));
    }
    PngCanvas unknown = new PngCanvas(20, 24);
    unknown.text(4, 18, 18, Canvas.Anchor.START, 0, "龍");
    assertFalse(drawn.contains(Arrays.hashCode(unknown.document())));
    // 0 and O are one shape, and so are x and ×.
    assertEquals(drawn.size() - 2, drawn.stream().distinct().count());
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
  void thePageDrawsEveryCell() throws Exception {
    Path page = folder.resolve("picture.html");
    PICTURE.write(page);
    String dom = Browser.show(page, "", folder);
    List<String> names =
        Pattern.compile("<td[^>]*aria-label=\"([^\"]*)\"")
            .matcher(dom)
            .results()
            .map(found -> found.group(1))
            .toList();
    assertEquals(8, names.size(), dom);
    assertEquals("Heads, layer 0, head 0: −12.5 %", names.getFirst());
    assertTrue(names.contains("Heads, layer 1, head 1: none"), names.toString());
    assertTrue(dom.contains("<title>Effects &lt;of&gt; heads &amp; more</title>"), dom);
    List<String> shades =
        Pattern.compile("background: (color-mix[^;]*);")
            .matcher(dom)
            .results()
            .map(found -> found.group(1))
            .toList();
    assertTrue(shades.getFirst().contains("--minus"), shades.toString());
    assertNotEquals(shades.get(0), shades.get(2));
  }
}
