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
import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

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
    return hits.stream().map(hit -> hit.layer() + "." + hit.neuron()).toList();
  }

  @Test
  void whatWasMeasuredIsDrawnAndSaid() throws Exception {
    Hit hit = SEARCH.byToken(Set.of(0), Bounds.NONE).getFirst();
    Effect before = new Effect(0.02, 1, 5, 10);
    List<Clamp> raised = new ArrayList<>();
    List<Clamp> not = new ArrayList<>();
    for (float value : new float[] {20, -20, 0}) {
      raised.add(new Clamp(value, new Effect(value < 0 ? 0.75 : 0.02, 1, 0, value < 0 ? 0 : 10)));
      not.add(new Clamp(value, before));
    }
    var effects = new Verification(before, List.of(new Trial(hit, raised, 3, not)));
    var measurement =
        new Atlas.Measurement("dog", "Which </script>?", Site.Kind.PRE_LINEAR, effects);
    String measured = section("measured", shown(page(List.of(measurement), 1 << 20), "#token=dog"));
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
