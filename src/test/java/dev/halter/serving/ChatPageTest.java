package dev.halter.serving;

import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.pictures.Browser;
import java.io.IOException;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The page at {@code /} as it is used. */
@Timeout(180)
class ChatPageTest {
  private static final String CAT = Demo.CAT;
  private static final String DOG = Demo.DOG;
  private static final String QUESTION = Demo.QUESTION;

  @TempDir private static Path profile;
  private static Browser browser; // of all tests: it takes longest to start

  @TempDir Path folder;

  @BeforeAll
  static void start() throws IOException, InterruptedException {
    browser = Browser.start(profile);
  }

  @AfterAll
  static void end() {
    if (browser != null) { // there may be none here
      browser.close();
    }
  }

  /** The browser, with the page open, which notes what the page sends. */
  private static void open(TestServer server) throws InterruptedException {
    browser.window(1360, 900, false);
    browser.slow(-1);
    browser.open(server.url("/"));
    loaded();
    browser.value(
        """
        window.sent = [];
        { const real = window.fetch;
          window.fetch = (path, options) => {
            if (options.body) sent.push([path, JSON.parse(options.body)]);
            return real(path, options);
          } }
        """);
  }

  private static void loaded() throws InterruptedException {
    browser.until(
        "!document.getElementById('desk').inert || !document.getElementById('problem').hidden");
  }

  private static void ask(String question) throws InterruptedException {
    browser.click("#question");
    browser.type(question);
    browser.click("#send");
    ended();
  }

  private static void ended() throws InterruptedException {
    browser.until("turns.length && turns.every(t => !t.plain.isRunning && !t.steered.isRunning)");
  }

  private static String text(String selector) throws InterruptedException {
    return browser.value("document.querySelector('" + selector + "').innerText");
  }

  private static JsonNode json(String expression) throws InterruptedException {
    return CommandLineRun.parse(browser.value("JSON.stringify(" + expression + ")"));
  }

  /** Bodies that the page has sent to a path. */
  private static List<JsonNode> sent(String path) throws InterruptedException {
    List<JsonNode> bodies = new ArrayList<>();
    json("sent")
        .forEach(
            each -> {
              if (each.get(0).asText().equals(path)) {
                bodies.add(each.get(1));
              }
            });
    return bodies;
  }

  private static void clampDog() throws InterruptedException {
    browser.click("#token");
    browser.type(Demo.DOG_ADDRESS);
    browser.click("#search button");
    browser.value("document.querySelector('#items input').select()");
    browser.type(Integer.toString(Demo.DOG_VALUE));
    browser.press("Tab");
  }

  @Test
  void bothAnswersComeAndDifferOnceANeuronIsClamped() throws Exception {
    try (TestServer server = TestServer.start()) {
      open(server);
      ask(QUESTION);
      assertEquals(CAT, text(".plain .text"));
      assertEquals(CAT, text(".steered .text"));
      assertEquals("Both answers are the same.", text("#status"));
      assertEquals(0, json("[...document.querySelectorAll('.other')]").size());

      clampDog();
      browser.until("document.getElementById('status').textContent.includes('ask again')");
      browser.click("#again");
      ended();
      assertEquals("1", browser.value("turns.length"));
      assertEquals(CAT, text(".plain .text"));
      assertEquals(DOG, text(".steered .text"));
      assertEquals(DOG, text(".steered .other").strip(), "what differs is marked");
      assertEquals("Both answers are there.", text("#status"));
      assertEquals(
          "Without a plan:  " + CAT + " With the plan:  " + DOG,
          browser.value("document.getElementById('heard').textContent"));
      String report = text(".steered .report tbody");
      assertEquals(
          "neuron_clamp at "
              + Demo.DOG_SITE
              + "\t22\t%.1f".formatted((double) Math.abs(Demo.DOG_VALUE)),
          report);
      assertEquals("", text(".plain .report"));

      List<JsonNode> sent = sent("/v1/completions");
      assertEquals(4, sent.size());
      assertTrue(sent.stream().allMatch(body -> body.get("stream").asBoolean()));
      // Both are asked at once, and either may be the first to go out.
      List<JsonNode> plans =
          sent.subList(2, 4).stream()
              .map(body -> body.get("plan"))
              .filter(Objects::nonNull)
              .toList();
      String shown = browser.value("document.getElementById('json').textContent");
      assertEquals(List.of(CommandLineRun.parse(shown)), plans, "what can be copied");

      String curl = browser.value("document.getElementById('curl').textContent");
      String body = curl.substring(curl.indexOf("-d '") + 4, curl.length() - 1);
      JsonNode answer = server.send("POST", "/v1/chat/completions", body).ok();
      assertEquals(" " + DOG, answer.get("choices").get(0).get("message").get("content").asText());

      browser.click("#copies summary");
      browser.value("navigator.clipboard.writeText = async text => { window.copied = text; }");
      browser.click("[data-copies=json]");
      assertEquals(shown, browser.value("window.copied"));

      // The address holds the plan.
      String fragment = browser.value("location.hash");
      browser.open(server.url("/") + fragment);
      loaded();
      assertEquals(shown, browser.value("document.getElementById('json').textContent"));
    }
  }

  /** With {@code -Dhalter.renew=true} ({@code tools/pages}) doc/serve.md gets its picture anew. */
  @Test
  void theDocumentShowsANeuronFoundByItsTokenAndBothAnswers() throws Exception {
    Path picture = Path.of("src/main/doc/serve.png");
    try (TestServer server = TestServer.start()) {
      open(server);
      browser.windowOf(picture);
      browser.click("#token");
      browser.type("dog");
      browser.press("Enter");
      browser.until("document.querySelectorAll('#found tbody tr').length > 0");
      browser.value(
          "[...document.querySelectorAll('#found tbody tr')]"
              + ".find(row => row.cells[0].textContent === '%s').querySelector('button').click()"
                  .formatted(Demo.DOG_ADDRESS));
      browser.value("document.querySelector('#items input').select()");
      browser.type(Integer.toString(Demo.DOG_VALUE));
      browser.press("Tab");
      ask(QUESTION);
      assertEquals(CAT, text(".plain .text"));
      assertEquals(DOG, text(".steered .text"));
      if (Boolean.getBoolean("halter.renew")) {
        browser.retake(picture);
      }
    }
  }

  @Test
  void aSecondQuestionHasTheConversationOfItsSide() throws Exception {
    try (TestServer server = TestServer.start()) {
      open(server);
      clampDog();
      ask(QUESTION);
      ask("Why?");
      List<JsonNode> chats = sent("/tokenize");
      assertEquals(4, chats.size());
      for (int side = 0; side < 2; side++) {
        JsonNode messages = chats.get(2 + side).get("messages");
        assertEquals(3, messages.size());
        assertEquals(side == 0 ? CAT : DOG, messages.get(1).get("content").asText());
        assertEquals("Why?", messages.get(2).get("content").asText());
      }
    }
  }

  /** Lets answers be of this many tokens, whatever the model wants. */
  private static void answersOf(int tokens) throws InterruptedException {
    for (String field : List.of("least", "most")) {
      browser.value("document.getElementById('" + field + "').value = " + tokens);
    }
  }

  private static List<Integer> ids(JsonNode list) {
    List<Integer> ids = new ArrayList<>();
    list.forEach(id -> ids.add(id.asInt()));
    return ids;
  }

  /** What the server goes on with after these tokens. */
  private static List<Integer> next(
      TestServer server, List<Integer> tokens, int count, String plan) {
    return ids(
        server
            .post(
                "/v1/completions",
                ("{'prompt': %s, 'max_tokens': %d, 'min_tokens': %2$d, 'temperature': 0,"
                        + " 'return_token_ids': true%s}")
                    .formatted(tokens, count, plan.isEmpty() ? "" : ", 'plan': " + plan))
            .ok()
            .get("choices")
            .get(0)
            .get("token_ids"));
  }

  private static String clamp(String rest) {
    return Demo.dogClamp(rest).replace('"', '\'');
  }

  /** Has the page run a script once the steered answer has more than {@code count} tokens. */
  private static void onceBeyond(int count, String script) throws InterruptedException {
    browser.value(
        """
        setInterval(() => {
          if (!window.isBeyond && turns.at(-1)?.steered.ids.length > %d) {
            window.isBeyond = true;
            %s
          }
        }, 1)
        """
            .formatted(count, script));
  }

  @Test
  void theSliderActsFromTheNextTokenOn() throws Exception {
    int count = 400;
    try (TestServer server = TestServer.start()) {
      open(server);
      clampDog();
      answersOf(count);
      browser.slow(60_000); // or an answer would be there before anything can be moved
      onceBeyond(
          20,
          """
          const slider = document.getElementById('strength');
          slider.value = 3.5;
          slider.dispatchEvent(new Event('input'));
          """);
      ask(QUESTION);
      JsonNode answer = json("{...turns[0].steered, view: null}");
      List<Integer> prompt = ids(answer.get("prompt"));
      List<Integer> all = ids(answer.get("ids"));
      assertEquals(count, all.size());
      assertEquals(2, answer.get("history").size(), "moved while it ran");
      int from = answer.get("history").get(1).get("from").asInt();
      int before = from + 1 - prompt.size();
      assertTrue(before > 20 && before < count, before + " tokens before");

      List<Integer> still = next(server, prompt, count, "{'interventions': [" + clamp("") + "]}");
      assertEquals(still.subList(0, before), all.subList(0, before), "what stood stays");
      assertNotEquals(still, all, "what comes is other");
      List<Integer> stands = new ArrayList<>(prompt);
      stands.addAll(all.subList(0, before));
      String first = ", 'when': {'prompt_window': [0, %d]}".formatted(from);
      String then =
          ", 'strength': 3.5, 'when': {'prompt_window': [%d, null], 'generation': 'all'}"
              .formatted(from);
      String plan = "{'interventions': [" + clamp(first) + "," + clamp(then) + "]}";
      List<Integer> expected = next(server, stands, count - before, plan);
      assertEquals(expected, all.subList(before, count), "and is what the strength makes of it");

      assertEquals("×3.5", text(".turned"));
      JsonNode rows = answer.get("report").get("interventions");
      assertEquals(from, rows.get(0).get("tokens").asInt());
      assertEquals(prompt.size() + count - 1 - from, rows.get(1).get("tokens").asInt());
      assertTrue(
          rows.get(1).get("mean_change").asDouble()
              > 2 * rows.get(0).get("mean_change").asDouble());
    }
  }

  @Test
  void anAnswerThatWasStoppedGoesOnAsIfItHadNotBeen() throws Exception {
    int count = 300;
    Files.writeString(
        folder.resolve("mixed.json"),
        """
        {"interventions": [
          %s,
          {"op": "neuron_clamp", "site": "blocks.2.mlp.hook_post", "neurons": [3, 4], "value": 25,
           "when": {"generation_tokens": [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "prompt": "all",
                    "exclude_prompt_window": [-3, null]}},
          {"op": "head_scale", "site": "blocks.0.attn.hook_z", "heads": [2], "scale": 0.2}],
         "when": {"generation_positions": [0, 5, 40, 90], "generation_window": [150, null]}}
        """
            .formatted(
                Demo.dogClamp(
                    3 * Demo.DOG_VALUE,
                    ", \"when\": {\"prompt_positions\": [1, -1], \"generation_window\": [7, 200],"
                        + " \"exclude_generation_positions\": [9]}")));
    try (TestServer server = setup().plans(folder).start()) {
      open(server);
      browser.click("details:has(#plans) summary");
      browser.click("#plans button");
      answersOf(count);
      browser.slow(60_000); // or an answer would be there before anything can be moved
      onceBeyond(60, "document.getElementById('stop').click();");
      ask(QUESTION);
      assertEquals("Stopped.", text("#status"));
      int stopped = json("turns[0].steered.ids").size();
      assertTrue(stopped > 60 && stopped < count, stopped + " tokens");
      assertTrue(text(".steered .report").startsWith("Stopped after " + stopped));
      browser.click("#on");
      ended();
      JsonNode answer = json("{...turns[0].steered, view: null}");
      List<Integer> prompt = ids(answer.get("prompt"));
      List<Integer> whole = next(server, prompt, count, "'mixed'");
      assertNotEquals(whole, next(server, prompt, count, ""));
      assertEquals(whole, ids(answer.get("ids")));
      assertEquals(next(server, prompt, count, ""), ids(json("turns[0].plain.ids")), "both");
      assertEquals(3, sent("/v1/completions").getLast().get("plan").get("interventions").size());
    }
  }

  /** Goes on by the tab key to an element, which must be within reach. */
  private static void tabTo(String selector) throws InterruptedException {
    for (int i = 0; i < 12; i++) {
      if (browser.value("document.activeElement.matches('" + selector + "')").equals("true")) {
        return;
      }
      browser.press("Tab");
    }
    throw new AssertionError("no " + selector + " behind the tab key");
  }

  @Test
  void aNeuronIsFoundByItsTokenAndPutInByKeysAlone() throws Exception {
    try (TestServer server = TestServer.start()) {
      open(server);
      browser.value("document.getElementById('acts').focus()");
      tabTo("#token");
      browser.type("dog");
      browser.press("Enter");
      browser.until("document.querySelectorAll('#found tbody tr').length > 0");
      String first = text("#found tbody tr");
      assertTrue(first.startsWith(Demo.DOG_ADDRESS + "\t+\t␣dog\t"), first);
      assertTrue(text("#sought").endsWith("whose up-projection speaks of it, the surest first."));
      tabTo("#found button");
      browser.press("Enter");
      assertEquals("Neuron " + Demo.DOG_ADDRESS + " ␣dog", text("#items .what"));
      assertEquals("Neuron " + Demo.DOG_ADDRESS + " is in the plan.", text("#said"));
      browser.value("document.getElementById('title').parentElement.focus()");
      tabTo("#items input"); // its whole value is selected
      browser.type(Integer.toString(Demo.DOG_VALUE));
      browser.value("document.getElementById('question').focus()");
      browser.type(QUESTION);
      browser.press("Enter");
      ended();
      assertEquals(DOG, text(".steered .text"));

      browser.value("document.getElementById('token').select()");
      browser.type("xyzzy");
      browser.press("Enter");
      browser.until("document.getElementById('found').children.length === 0");
      String said = text("#sought");
      assertTrue(said.contains("xyzzy"), said);
    }
  }

  @Test
  void headsArePickedByKeys() throws Exception {
    try (TestServer server = TestServer.start()) {
      open(server);
      browser.value("document.querySelector('details:has(#grid) summary').focus()");
      browser.press("Enter");
      browser.press("Tab");
      assertEquals("0.0", browser.value("document.activeElement.dataset.head"));
      for (String key :
          List.of("ArrowRight", "ArrowRight", "Space", "ArrowRight", "Space", "ArrowDown", "End")) {
        browser.press(key);
      }
      int last = Demo.CONFIG.nHeads() - 1;
      assertEquals("1." + last, browser.value("document.activeElement.dataset.head"));
      browser.press("Enter");
      browser.press("ArrowRight");
      assertEquals(
          "1." + last, browser.value("document.activeElement.dataset.head"), "there it ends");
      browser.press("Tab"); // the whole grid is one stop
      browser.value("document.activeElement.select()");
      browser.type("0.5");
      browser.press("Enter");
      assertEquals("Heads 0.2, 0.3, 1." + last, text("#items .what"));
      JsonNode plan = json("written()").get("interventions");
      assertEquals(
          CommandLineRun.parse(
              """
              [{"op": "head_scale", "site": "blocks.0.attn.hook_z", "heads": [2, 3], "scale": 0.5},
               {"op": "head_scale", "site": "blocks.1.attn.hook_z", "heads": [%d], "scale": 0.5}]
              """
                  .formatted(last)),
          plan);
      assertEquals(0, json("picked()").size());
      browser.click("#items .away");
      assertEquals("null", browser.value("String(written())"));
    }
  }

  @Test
  void vectorsConceptsAndControlsOfTheServerArePutIn() throws Exception {
    VectorsTest.writeAll(folder);
    try (TestServer server = setup().plans(folder).start()) {
      open(server);
      browser.click("details:has(#vectors) summary");
      assertEquals(
          "concepts.safetensors control.safetensors happy.gguf v.safetensors#calm"
              + " v.safetensors#rude",
          browser.value(
              "[...document.getElementById('vector').options].map(o => o.value).join(' ')"));
      choose("vector", "happy.gguf");
      assertEquals(
          "1 2",
          browser.value(
              "[...document.getElementById('layer').options].map(o => o.value).join(' ')"));
      choose("layer", "2");
      browser.value("document.getElementById('amount').value = 5");
      browser.click("#vectors button");
      choose("vector", "v.safetensors#rude");
      choose("op", "ablate");
      browser.click("#vectors button");
      choose("vector", "concepts.safetensors");
      browser.until("document.getElementById('concepts').options.length === 2");
      browser.value("document.getElementById('concept').value = 'harm'");
      browser.click("#vectors button");
      choose("op", "remove_concepts");
      browser.click("#vectors button");
      assertEquals(
          CommandLineRun.parse(
              """
              [{"op": "add", "site": "blocks.2.hook_resid_post", "vector": "happy.gguf", "scale": 5},
               {"op": "ablate", "site": "blocks.0.hook_resid_post", "vector": "v.safetensors#rude"},
               {"op": "add", "site": "blocks.2.hook_resid_post",
                "vector": {"dictionary": "concepts.safetensors", "concept": "harm"}, "scale": 5},
               {"op": "remove_concepts", "dictionary": "concepts.safetensors", "layers": [2, 2], "remove": ["harm"]}]
              """),
          json("written()").get("interventions"));
      ask(QUESTION);
      assertNotEquals(CAT, text(".steered .text"));
      assertEquals(4, json("[...document.querySelectorAll('.steered tbody tr')]").size());

      // One that the server refuses is told in its words, beside the answer that it costs.
      choose("vector", "control.safetensors");
      browser.click("#vectors button");
      browser.click("#clear");
      ask(QUESTION);
      String said = text(".steered [role=alert]");
      assertTrue(said.contains("made for another model"), said);
      assertEquals(CAT, text(".plain .text"));
    }
  }

  private static void choose(String select, String option) throws InterruptedException {
    browser.value(
        "{ const node = document.getElementById('%s'); node.value = '%s';".formatted(select, option)
            + " node.dispatchEvent(new Event('change', {bubbles: true})) }");
  }

  @Test
  void aKeyIsAskedForWhereTheServerWantsOne() throws Exception {
    Path keys = Files.writeString(folder.resolve("keys"), "sesame\n");
    try (TestServer server = setup().keys(keys).start()) {
      open(server);
      assertEquals("this needs a key: send it as Authorization: Bearer KEY", text("#problem"));
      assertEquals("key", browser.value("document.activeElement.id"));
      browser.type("wrong");
      browser.press("Enter");
      browser.until("document.getElementById('problem').textContent.includes('not one of')");
      browser.value("document.getElementById('key').select()");
      browser.type("sesame");
      browser.press("Enter");
      browser.until("!document.getElementById('desk').inert");
      assertEquals("true", browser.value("document.getElementById('access').hidden"));
      ask(QUESTION);
      assertEquals(CAT, text(".plain .text"));
    }
  }

  @Test
  void textStaysText() throws Exception {
    try (TestServer server = TestServer.start()) {
      open(server);
      browser.value(
          "add({kind: 'neuron', neuron: '1.270', site: 'hook_post', value: 1, token: '<img>'})");
      ask("</h3><img src=x onerror=\"document.title='stolen'\">");
      assertTrue(text(".turn h3").startsWith("</h3><img"));
      assertEquals("0", browser.value("document.images.length"));
      assertEquals("Halter: demo", browser.value("document.title"));
      for (String wrong :
          List.of(
              "#{",
              "#null",
              "#%7B%22items%22%3A%5B%7B%22kind%22%3A%22plan%22%2C%22name%22%3A%22gone%22%7D%5D%7D",
              "#" + "%7B%22items%22%3A%5B%7B%7D%5D%7D")) {
        browser.open(server.url("/") + wrong);
        loaded();
        assertEquals("null", browser.value("String(written())"), wrong);
        assertTrue(text("#problem").startsWith("The address holds a plan"), wrong);
      }
    }
  }

  @Test
  void thePageMayDoNoMoreThanItMust() throws IOException {
    try (TestServer server = TestServer.start()) {
      HttpResponse<?> response = server.get("/").response();
      assertEquals(200, response.statusCode());
      assertEquals("text/html; charset=utf-8", response.headers().firstValue("Content-Type").get());
      String policy = response.headers().firstValue("Content-Security-Policy").get();
      assertTrue(policy.startsWith("default-src 'none'; script-src 'sha256-"), policy);
      assertTrue(policy.contains("connect-src 'self'"), policy);
      assertFalse(policy.contains("unsafe"), policy);
      assertEquals(server.get("/").body(), server.get("/index.html").body());
    }
  }

  /** The least contrast of a text with what lies behind it, and where. */
  private static String contrast() throws InterruptedException {
    return browser.value(
        """
        {
          const rgb = color => (/rgba?\\(([^)]*)\\)/.exec(color)?.[1] ?? '0,0,0,0').split(',').map(Number);
          const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
              .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
              .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
          const behind = node => {
            const color = rgb(getComputedStyle(node).backgroundColor);
            return color[3] === 0 && node.parentElement ? behind(node.parentElement) : color;
          };
          let worst = [99, ''];
          for (const node of document.body.querySelectorAll('*')) {
            const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
            if (!own || !node.checkVisibility() || node.disabled || /SCRIPT|OPTION/.test(node.tagName)) continue;
            const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 80)];
          }
          worst[0].toFixed(2) + ' ' + worst[1]
        }
        """);
  }

  @Test
  void itFitsEveryWindowAndCanBeRead() throws Exception {
    VectorsTest.writeAll(folder);
    try (TestServer server = setup().plans(folder).start()) {
      open(server);
      clampDog();
      browser.value("add({kind: 'heads', heads: ['0.1', '0.2', '0.3', '3.4'], scale: 0})");
      browser.value(
          "add({kind: 'vector', op: 'add', layer: 2, scale: 0.1, vector: {dictionary:"
              + " 'concepts.safetensors', concept: 'harm'}})");
      ask(QUESTION);
      ask("an_unbroken_word_".repeat(6));
      browser.value(
          "for (const each of document.querySelectorAll('details')) { each.name = ''; each.open ="
              + " true; }");
      for (int width : new int[] {420, 1000, 1360}) {
        for (boolean dark : new boolean[] {false, true}) {
          browser.window(width, 900, dark);
          assertEquals("", browser.overflowing(), width + " px");
          String least = contrast();
          assertTrue(Double.parseDouble(least.split(" ")[0]) >= 4.5, least);
        }
      }
    }
  }
}
