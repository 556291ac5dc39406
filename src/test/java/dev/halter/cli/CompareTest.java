package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.pictures.Browser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter compare} as text, JSON and page. */
class CompareTest {
  private static final String QUESTION = Demo.QUESTION;
  private static final String SUM = "What is 3 plus 4?";

  @TempDir Path folder;

  private Path dogs;
  private Path nothing;

  @BeforeEach
  void writePlans() throws IOException {
    dogs = folder.resolve("dogs.json");
    Files.writeString(
        dogs,
        """
        {"name": "more <b>dogs</b>", "interventions": [
          %s]}
        """
            .formatted(Demo.dogClamp("")));
    nothing = folder.resolve("nothing.json");
    Files.writeString(
        nothing,
        """
        {"interventions": [
          {"op": "head_scale", "site": "blocks.3.attn.hook_z", "heads": [0], "scale": 1}]}
        """);
  }

  @Test
  void everyPlanAnswersEveryPromptBesideNone() {
    String plain = halter("generate", "--ask", QUESTION).out().strip();
    JsonNode steered = halter("generate", "--ask", QUESTION, "--plan", dogs, "--json").json();
    assertNotEquals(plain, steered.get("text").asText().strip(), "the plan changes nothing");
    JsonNode told =
        halter(
                "compare",
                "--plan",
                dogs,
                "--plan",
                nothing,
                "--ask",
                QUESTION,
                "--prompt",
                "A cat",
                "--ask",
                SUM,
                "--max-tokens",
                20,
                "--first",
                3,
                "--json")
            .json();
    assertEquals(List.of("model", "device", "questions"), keys(told));
    JsonNode questions = told.get("questions");
    assertEquals(
        List.of(QUESTION, "A cat", SUM),
        questions.findValues("prompt").stream().map(JsonNode::asText).toList());
    JsonNode answers = questions.get(0).get("answers");
    assertEquals(3, answers.size());
    assertTrue(answers.get(0).get("plan").isNull());
    assertEquals("more <b>dogs</b>", answers.get(1).get("plan").asText());
    assertEquals("nothing", answers.get(2).get("plan").asText(), "by its file");
    assertEquals(plain, answers.get(0).get("text").asText().strip());
    for (String key : List.of("text", "tokens", "finish_reason", "steering_report")) {
      assertEquals(steered.get(key), answers.get(1).get(key), key);
    }
    assertFalse(answers.get(1).get("same_as_unsteered").asBoolean());
    assertTrue(answers.get(2).get("same_as_unsteered").asBoolean());
    for (JsonNode answer : answers) {
      int tokens = answer.get("tokens").size();
      for (String key : List.of("pieces", "logprobs", "unsteered_logprobs")) {
        assertEquals(tokens, answer.get(key).size(), key);
      }
      double sum = 0;
      for (JsonNode each : answer.get("unsteered_logprobs")) {
        sum += each.asDouble();
      }
      double perplexity = Math.exp(-sum / tokens);
      assertEquals(perplexity, answer.get("unsteered_perplexity").asDouble(), 1e-6 * perplexity);
      assertEquals(3, answer.get("first").size());
      assertEquals(
          Math.exp(answer.get("logprobs").get(0).asDouble()),
          answer.get("first").get(0).get("probability").asDouble(),
          1e-6);
    }
    assertEquals(answers.get(0).get("logprobs"), answers.get(0).get("unsteered_logprobs"));
    assertNotEquals(answers.get(1).get("logprobs"), answers.get(1).get("unsteered_logprobs"));
  }

  /** The answer under no plan (0) or under that of the dogs (1), as JSON. */
  private JsonNode answered(int plan) {
    JsonNode told = halter("compare", "--plan", dogs, "--ask", QUESTION, "--json").json();
    return told.get("questions").get(0).get("answers").get(plan);
  }

  /** What an answer's first token is as likely as, by one of its lists. */
  private static String probability(JsonNode answer, String logprobs) {
    return "probability %.3f".formatted(Math.exp(answer.get(logprobs).get(0).asDouble()));
  }

  @Test
  void textTellsAnswersNumbersAndReports() {
    String plain = halter("generate", "--ask", QUESTION).out().strip();
    String steered = halter("generate", "--ask", QUESTION, "--plan", dogs).out().strip();
    CommandLineRun run =
        halter("compare", "--plan", dogs, "--plan", nothing, "--ask", QUESTION, "--tokens");
    assertEquals(0, run.code(), run.err());
    List<String> lines = run.out().lines().toList();
    assertEquals(QUESTION, lines.get(0));
    assertEquals("no plan           " + plain, lines.get(2));
    assertEquals("more <b>dogs</b>  " + steered, lines.get(3));
    assertEquals("nothing           the same answer", lines.get(4));
    String parts = "parts at token 1, ' dog': " + probability(answered(1), "logprobs");
    assertTrue(run.out().contains(parts), run.out());
    assertTrue(run.out().contains("steered neuron_clamp at " + Demo.DOG_SITE + ": "));
    assertTrue(run.out().contains("nothing           same answer as without a plan"), run.out());
    assertTrue(run.out().contains("  ' dog'"), run.out());
  }

  @Test
  void plansOfOneNameAreToldApartByTheirFiles() throws IOException {
    Path copy = Files.copy(dogs, folder.resolve("copy.json"));
    JsonNode told =
        halter("compare", "--plan", dogs, "--plan", copy, "--ask", SUM, "--json").json();
    JsonNode answers = told.get("questions").get(0).get("answers");
    assertEquals(dogs.toString(), answers.get(1).get("plan").asText());
    assertEquals(copy.toString(), answers.get(2).get("plan").asText());
  }

  @Test
  void whatIsMissingOrCannotBeIsOneLine() {
    halter("compare", "--ask", SUM).error(2);
    halter("compare", "--plan", dogs).error(2);
    halter("compare", "--plan", dogs, "--ask", SUM, "--first", 0).error(2);
    halter("compare", "--plan", dogs, "--ask", SUM, "--max-tokens", 0).error(2);
    halter("compare", "--plan", folder.resolve("none.json"), "--ask", SUM).error(1);
    halter("compare", "--plan", dogs, "--messages", folder.resolve("none.json")).error(1);
  }

  @Test
  void thePlansThatShipDoWhatTheirPageSays() throws IOException {
    CommandLineRun run =
        halter(
            "compare",
            "--plan",
            Demo.DOGS,
            "--plan",
            Demo.PLANS.resolve("no-sums.json"),
            "--ask",
            QUESTION,
            "--ask",
            SUM);
    assertEquals(0, run.code(), run.err());
    List<String> lines = run.out().lines().toList();
    assertEquals("dogs     " + Demo.DOG, lines.get(3));
    int sum = lines.indexOf(SUM);
    String page = Files.readString(Path.of("src/main/doc/chat.md"));
    for (String line : lines.subList(sum, sum + 4)) {
      assertTrue(page.contains("\n" + line + "\n"), line);
    }
    assertFalse(lines.get(sum + 4).startsWith("no sums  7"), lines.get(sum + 4));
  }

  private String bothProbabilities() {
    JsonNode dog = answered(1);
    return probability(dog, "logprobs")
        + probability(dog, "unsteered_logprobs").replace("probability", ", without a plan");
  }

  private static List<String> all(String regex, String text) {
    return Pattern.compile(regex).matcher(text).results().map(match -> match.group(1)).toList();
  }

  private Path page() {
    Path page = folder.resolve("c.html");
    CommandLineRun run =
        halter(
            "compare",
            "--plan",
            dogs,
            "--plan",
            nothing,
            "--ask",
            QUESTION,
            "--prompt",
            "</script><img src=x>",
            "--max-tokens",
            20,
            "--html",
            page);
    assertEquals(0, run.code(), run.err());
    return page;
  }

  @Test
  void thePageShowsAnswersSideBySideAsText() throws Exception {
    Path page = page();
    String dom;
    try (Browser browser = Browser.start(folder)) {
      browser.open(page, "");
      dom = browser.document();
    }
    dom = dom.substring(0, dom.indexOf("<script type=\"application/json\""));
    assertEquals(
        List.of("no plan", "more &lt;b&gt;dogs&lt;/b&gt;", "nothing"),
        all("<h3>(.*?)</h3>", dom).subList(0, 3));
    assertTrue(dom.contains("<h2>&lt;/script&gt;&lt;img src=x&gt;</h2>"), dom);
    assertFalse(dom.contains("<img"));
    assertTrue(dom.contains("The same answer as without a plan."));
    assertEquals(
        List.of("token 1, “ dog”: " + bothProbabilities()),
        all("class=\"parts\"[^>]*aria-label=\"([^\"]*)\"", dom).subList(0, 1));
    assertTrue(dom.contains("neuron_clamp at " + Demo.DOG_SITE + ": "), dom);
    assertTrue(all("(Perplexity without a plan [0-9.]+)", dom).size() >= 2, dom);
    // One token of an answer is reached by Tab, the others by arrow keys.
    assertEquals(
        all("(<p class=\"text\">)", dom).size(), all("(<span[^>]* tabindex=\"0\")", dom).size());
  }

  @Test
  void theFileNeedsNothingElse() throws IOException {
    String page = Files.readString(page()).replace("img src=x", "");
    for (String needs : List.of("src=", "<link", "@import", "url(", "http:", "https:")) {
      assertFalse(page.contains(needs), needs);
    }
  }

  @Test
  void thePageFitsANarrowWindowAndIsReadByKeyboard() throws Exception {
    Path page = page();
    try (Browser browser = Browser.start(folder)) {
      for (boolean dark : new boolean[] {false, true}) {
        for (int width : new int[] {420, 1100}) {
          browser.window(width, 900, dark);
          browser.open(page, "");
          assertEquals("", browser.overflowing());
        }
      }
      String readout = "document.getElementById('readout').textContent";
      browser.press("Tab");
      String cat = "no plan, token 1, “ cat”: " + probability(answered(0), "logprobs");
      assertEquals(cat, browser.value(readout));
      browser.press("ArrowRight");
      assertTrue(browser.value(readout).startsWith("no plan, token 2, “.”"));
      browser.press("Tab");
      String dog = "more <b>dogs</b>, token 1, “ dog”: " + bothProbabilities();
      assertEquals(dog, browser.value(readout));
    }
  }
}
