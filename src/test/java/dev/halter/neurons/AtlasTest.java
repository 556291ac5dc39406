package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse.Effect;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.neurons.Verification.Clamp;
import dev.halter.neurons.Verification.Trial;
import dev.halter.pictures.Browser;
import dev.halter.text.VisibleText;
import java.io.IOException;
import java.io.StringReader;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;

/** The page as a browser shows it. */
class AtlasTest {
  /** Text that must stay text. */
  private static final List<String> PIECES =
      List.of(
          " dog",
          "dog",
          "</script>",
          "<script>document.title = 'stolen'</script>",
          "<img src=x onerror=\"document.title='stolen'\">",
          "<!--",
          "\"",
          "\n",
          "&amp;",
          "🐕",
          "cat");

  private static final NeuronMap MAP = MadeMap.random(Sign.BOTH, 3, 5, PIECES.size(), 4, 7);
  private static final NeuronSearch SEARCH = new NeuronSearch(MAP);

  @TempDir Path folder;

  /** The document after the page's script has drawn what the fragment asks for. */
  private String shown(Path page, String fragment) throws IOException, InterruptedException {
    String dom;
    try (Browser browser = Browser.start(folder)) {
      browser.open(page, fragment);
      browser.until("document.getElementById('status').textContent !== 'Opening the map …'");
      browser.until(
          "!new URLSearchParams(location.hash.slice(1)).has('neuron')"
              + " || document.getElementById('neuron').children.length > 0");
      dom = browser.document();
    }
    // Without the data and the script that are still in it.
    return dom.substring(0, dom.indexOf("<script type=\"application/json\""));
  }

  private Path page(List<Atlas.Measurement> measured, long limit) {
    Path page = folder.resolve("atlas.html");
    Atlas.write(page, "a <b>model</b>", MAP, PIECES::get, measured, limit);
    return page;
  }

  private static List<String> all(String regex, String text) {
    return Pattern.compile(regex).matcher(text).results().map(match -> match.group(1)).toList();
  }

  private static String section(String id, String dom) {
    int from = dom.indexOf("id=\"" + id + "\"");
    return dom.substring(from, dom.indexOf("</section>", from));
  }

  @Test
  void searchShowsTheNeuronsThatNameATokenWithAndWithoutItsSpace() throws Exception {
    String dom = shown(page(List.of(), 1 << 20), "#token=dog");
    List<Hit> hits = SEARCH.byToken(Set.of(0, 1), Bounds.NONE);
    assertTrue(hits.size() > 12, "enough to be cut");
    String found = section("found", dom);
    assertTrue(dom.contains(">" + hits.size() + " neurons of 15 with “dog”"), dom);
    List<String> neurons = all("<tr data-neuron=\"([^\"]*)\"", found);
    assertEquals(neurons(hits.subList(0, 12)), neurons);
    assertEquals(hits.size(), all("(<circle)", found).size(), "a dot for each in the picture");
    List<String> shares = all("number\">([0-9.e-]+)</td><td class=\"number\">[0-9.]+×", found);
    for (int i = 0; i < 12; i++) {
      double probability = hits.get(i).probability();
      assertEquals(probability, Double.parseDouble(shares.get(i)), 0.05 * probability);
    }
  }

  @Test
  void aNeuronShowsItsTokensOfBothSigns() throws Exception {
    String dom = shown(page(List.of(), 1 << 20), "#neuron=2.4");
    List<String> expected =
        SEARCH.byNeuron(2, 4, 4).stream().map(hit -> Integer.toString(hit.tokenId())).toList();
    assertEquals(expected, all("\\(token (\\d+)\\)\"", section("neuron", dom)));
    String none = shown(page(List.of(), 1 << 20), "#neuron=3.0");
    assertTrue(section("neuron", none).contains("layers are 0 to 2, neurons 0 to 4"), none);
  }

  @Test
  void tokensThatLookLikeHtmlStayText() throws Exception {
    List<String> images = neurons(SEARCH.byToken(Set.of(4), Bounds.NONE));
    String both =
        neurons(SEARCH.byToken(Set.of(3), Bounds.NONE)).stream()
            .filter(images::contains)
            .findFirst()
            .orElseThrow();
    String words = URLEncoder.encode("</script> <!--", StandardCharsets.UTF_8);
    String dom = shown(page(List.of(), 1 << 20), "#token=" + words + "&neuron=" + both);
    assertTrue(dom.contains("<title>Neuron atlas: a &lt;b&gt;model&lt;/b&gt;</title>"), dom);
    assertFalse(dom.contains("<img"));
    assertTrue(section("found", dom).contains(">&lt;/script&gt;</a>"), dom);
    assertTrue(section("found", dom).contains(">&lt;!--</a>"), dom);
    assertTrue(section("neuron", dom).contains(">&lt;script&gt;document.title"), dom);
    assertTrue(section("neuron", dom).contains(">&lt;img␣src=x␣onerror="), dom);
  }

  private static List<String> neurons(List<Hit> hits) {
    return hits.stream().map(AtlasTest::name).toList();
  }

  private static Atlas.Measurement measurement() {
    Hit hit = SEARCH.byToken(Set.of(0), Bounds.NONE).getFirst();
    Effect before = new Effect(0.02, 1, 5, 10);
    List<Clamp> raised = new ArrayList<>();
    List<Clamp> not = new ArrayList<>();
    for (float value : new float[] {20, -20, 0}) {
      raised.add(new Clamp(value, new Effect(value < 0 ? 0.75 : 0.02, 1, 0, value < 0 ? 0 : 10)));
      not.add(new Clamp(value, before));
    }
    var effects = new Verification(before, List.of(new Trial(hit, raised, 3, not)));
    return new Atlas.Measurement("dog", "Which </script>?", Site.Kind.PRE_LINEAR, effects);
  }

  @Test
  void whatWasMeasuredIsDrawnAndSaid() throws Exception {
    Hit hit = SEARCH.byToken(Set.of(0), Bounds.NONE).getFirst();
    Path page = page(List.of(measurement()), 1 << 20);
    String measured = section("measured", shown(page, "#token=dog"));
    assertTrue(
        measured.contains(
            "Neuron %d.%d: at most 0.750, at −20; control %d.3: at most 0.020; unclamped 0.020"
                .formatted(hit.layer(), hit.neuron(), hit.layer())),
        measured);
    assertTrue(measured.contains("hook_pre_linear is held"), measured);
    assertTrue(measured.contains("Which &lt;/script&gt;?"), measured);
    List<String> path = all("class=\"line\" d=\"([^\"]*)\"", measured);
    assertEquals(2, path.getFirst().chars().filter(c -> c == 'L').count(), "three points");
  }

  @Test
  void anAddressInTheSearchOpensItsNeuron() throws Exception {
    try (Browser browser = Browser.start(folder)) {
      browser.open(page(List.of(), 1 << 20), "#token=cat");
      browser.until("document.querySelectorAll('circle').length > 0");
      String dots = browser.value("document.querySelectorAll('circle').length");
      browser.value("document.getElementById('query').select()");
      browser.type(" 2.4 ");
      assertEquals("neuron 2.4", browser.value("document.getElementById('similar').textContent"));
      browser.press("Enter");
      browser.until("document.getElementById('neuron').textContent.includes('Neuron 2.4')");
      assertEquals(
          dots,
          browser.value("document.querySelectorAll('circle').length"),
          "what was found stays");
      String said = browser.value("document.getElementById('said').textContent");
      String first = PIECES.get(SEARCH.byNeuron(2, 4, 1).getFirst().tokenId());
      assertTrue(said.startsWith("Neuron 2.4. +w decodes to " + VisibleText.of(first)), said);
      browser.value("document.getElementById('query').select()");
      browser.type("9.9");
      browser.press("Enter");
      browser.until("document.querySelector('#neuron [role=alert]') !== null");
      assertEquals(
          "No neuron “9.9”: layers are 0 to 2, neurons 0 to 4.",
          browser.value("document.getElementById('neuron').textContent"));
    }
  }

  @Test
  void dotsAreWalkedByKeysAndOpened() throws Exception {
    List<Hit> hits = SEARCH.byToken(Set.of(0, 1), Bounds.NONE);
    List<Hit> byLayer = new ArrayList<>(hits);
    byLayer.sort(Comparator.comparingInt(Hit::layer).thenComparingInt(Hit::neuron));
    try (Browser browser = Browser.start(folder)) {
      browser.open(page(List.of(), 1 << 20), "#token=dog");
      browser.until("document.querySelectorAll('circle').length > 0");
      String active = "document.activeElement.dataset.neuron";
      browser.value("document.querySelector('#found a').focus()"); // before the picture
      for (int i = 0; i < 9 && !browser.value(active).matches("[0-9.]+"); i++) {
        browser.press("Tab");
      }
      assertEquals(name(hits.getFirst()), browser.value(active), "the most probable");
      assertEquals("option", browser.value("document.activeElement.getAttribute('role')"));
      assertEquals("4px", browser.value("getComputedStyle(document.activeElement).strokeWidth"));
      browser.press("ArrowDown");
      assertEquals(name(hits.get(1)), browser.value(active), "the next by probability");
      browser.press("Home");
      assertEquals(name(byLayer.getFirst()), browser.value(active));
      browser.press("ArrowRight");
      assertEquals(name(byLayer.get(1)), browser.value(active), "the next of the layer");
      browser.press("End");
      browser.press("ArrowRight"); // there is none
      assertEquals(name(byLayer.getLast()), browser.value(active));
      browser.press("Enter");
      browser.until("document.getElementById('neuron').children.length > 0");
      String opened = name(byLayer.getLast());
      assertEquals(
          "Neuron " + opened, browser.value("document.querySelector('#neuron h2').textContent"));
      assertEquals(opened, browser.value(active), "the focus stays");
      assertEquals("true", browser.value("document.activeElement.getAttribute('aria-selected')"));
      assertEquals(
          "1", browser.value("document.querySelectorAll('circle[tabindex=\"0\"]').length"));
      String said = browser.value("document.getElementById('said').textContent");
      assertTrue(said.startsWith("Neuron " + opened + ". "), said);
    }
  }

  private static String name(Hit hit) {
    return hit.layer() + "." + hit.neuron();
  }

  @Test
  void thePageFitsNarrowAndWideWindows() throws Exception {
    Path page = page(List.of(measurement()), 1 << 20);
    try (Browser browser = Browser.start(folder)) {
      for (int width : new int[] {420, 1200}) {
        browser.window(width, 900, width == 420);
        browser.open(page, "#token=dog&neuron=2.4");
        browser.until("document.querySelectorAll('#neuron table').length === 2");
        assertEquals("", browser.overflowing(), width + " px");
        String bar = "getComputedStyle(document.getElementById('panels')).display";
        assertEquals(width == 420 ? "flex" : "none", browser.value(bar));
      }
      browser.window(420, 500, false);
      browser.until("document.querySelectorAll('#panels button').length === 4");
      browser.value("document.querySelectorAll('#panels button')[2].click()");
      browser.until(
          "Math.abs(document.getElementById('measured').getBoundingClientRect().top - 51.2) < 1");
    }
  }

  @Test
  void picturesAreSavedAsFilesOfTheirOwn() throws Exception {
    Path page = page(List.of(measurement()), 1 << 20);
    try (Browser browser = Browser.start(folder)) {
      browser.window(1200, 900, true);
      browser.open(page, "#token=dog");
      browser.until("document.querySelectorAll('#measured .save').length === 1");
      browser.value(
          "const real = URL.createObjectURL; URL.createObjectURL = blob => {"
              + " blob.text().then(text => window.saved = text); return real.call(URL, blob); };"
              + " document.querySelector('#measured .save').click()");
      browser.until("window.saved !== undefined");
      String svg = browser.value("window.saved");
      Document document =
          DocumentBuilderFactory.newInstance()
              .newDocumentBuilder()
              .parse(new InputSource(new StringReader(svg)));
      assertEquals("svg", document.getDocumentElement().getTagName());
      assertTrue(svg.contains("fill: rgb(154, 52, 18)"), "in its light colours: " + svg);
    }
  }

  @Test
  void aPageTooLargeKeepsFewerTokensAndSaysSo() throws Exception {
    String dom = shown(page(List.of(), 1), "#neuron=0.0");
    assertEquals(
        2, all("\\(token (\\d+)\\)\"", section("neuron", dom)).size(), "one for each sign");
    assertTrue(dom.contains("The map has 4 tokens a row"), dom);
  }

  @Test
  void theFileNeedsNothingElse() throws IOException {
    String page = Files.readString(page(List.of(), 1 << 20));
    for (String needs : List.of("src=", "<link", "@import", "url(", "http:", "https:")) {
      String rest = page.replace("http://www.w3.org/2000/svg", "").replace("src=x␣onerror", "");
      assertFalse(rest.contains(needs), needs);
    }
  }
}
