package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * Headless Chromium with one page open, led through its DevTools protocol; tests that need it are
 * skipped where there is none.
 */
public final class Browser implements AutoCloseable {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Map<String, Integer> CODES =
      Map.ofEntries(
          Map.entry("Tab", 9),
          Map.entry("Enter", 13),
          Map.entry("Escape", 27),
          Map.entry("Space", 32),
          Map.entry("End", 35),
          Map.entry("Home", 36),
          Map.entry("ArrowLeft", 37),
          Map.entry("ArrowUp", 38),
          Map.entry("ArrowRight", 39),
          Map.entry("ArrowDown", 40));

  /** What keys type; without it no form is sent and no button pressed. */
  private static final Map<String, String> TEXTS = Map.of("Enter", "\r", "Space", " ");

  private final Process process;
  private final WebSocket socket;
  private final BlockingQueue<JsonNode> messages = new LinkedBlockingQueue<>();
  private int sent;
  private String session;

  private Browser(Process process, URI address) {
    this.process = process;
    this.socket =
        HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(address, new Listener()).join();
  }

  /** Collects messages, which may come in parts. */
  private final class Listener implements WebSocket.Listener {
    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean last) {
      text.append(part);
      if (last) {
        try {
          messages.add(JSON.readTree(text.toString()));
        } catch (IOException e) {
          throw new AssertionError(e);
        }
        text.setLength(0);
      }
      from.request(1);
      return null;
    }
  }

  /**
   * Starts a browser without a page.
   *
   * @param folder for its own files
   */
  public static Browser start(Path folder) throws IOException, InterruptedException {
    List<Path> found =
        Stream.of(System.getenv("PATH").split(":"))
            .flatMap(place -> Stream.of("chromium", "google-chrome").map(Path.of(place)::resolve))
            .filter(Files::isExecutable)
            .toList();
    assumeTrue(!found.isEmpty(), "no browser on the PATH: install the package chromium");
    Process process =
        new ProcessBuilder(
                found.getFirst().toString(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                "--user-data-dir=" + folder.resolve("profile"))
            .redirectOutput(ProcessBuilder.Redirect.DISCARD)
            .start();
    try {
      Browser browser = new Browser(process, address(process));
      JsonNode target = browser.call("Target.createTarget", Map.of("url", "about:blank"));
      browser.session =
          browser
              .call(
                  "Target.attachToTarget",
                  Map.of("targetId", target.get("targetId").asText(), "flatten", true))
              .get("sessionId")
              .asText();
      browser.call("Page.enable", Map.of());
      browser.call("Emulation.setFocusEmulationEnabled", Map.of("enabled", true));
      return browser;
    } catch (RuntimeException | Error | IOException e) {
      end(process);
      throw e;
    }
  }

  /** Where it listens, which it says on standard error. */
  private static URI address(Process process) throws IOException {
    String before = "DevTools listening on ";
    BufferedReader errors = process.errorReader(StandardCharsets.UTF_8);
    String line;
    do {
      line = errors.readLine();
      assertNotNull(line, "the browser ended before it listened");
    } while (!line.startsWith(before));
    Thread.ofVirtual().start(() -> errors.lines().forEach(rest -> {})); // or it would block
    return URI.create(line.substring(before.length()));
  }

  private JsonNode call(String method, Map<String, ?> arguments) throws InterruptedException {
    int id = ++sent;
    ObjectNode message = JSON.createObjectNode().put("id", id).put("method", method);
    message.set("params", JSON.valueToTree(arguments));
    if (session != null) {
      message.put("sessionId", session);
    }
    socket.sendText(message.toString(), true).join();
    while (true) {
      JsonNode answer = next();
      if (answer.path("id").asInt() == id) {
        assertFalse(answer.has("error"), method + ": " + answer);
        return answer.get("result");
      }
    }
  }

  private JsonNode next() throws InterruptedException {
    JsonNode message = messages.poll(60, TimeUnit.SECONDS);
    assertNotNull(message, "the browser does not answer");
    return message;
  }

  /** How wide and high the window is, and whether the user likes it dark. */
  public void window(int width, int height, boolean dark) throws InterruptedException {
    call(
        "Emulation.setDeviceMetricsOverride",
        Map.of("width", width, "height", height, "deviceScaleFactor", 1, "mobile", false));
    Map<String, String> scheme =
        Map.of("name", "prefers-color-scheme", "value", dark ? "dark" : "light");
    call("Emulation.setEmulatedMedia", Map.of("features", List.of(scheme)));
  }

  /**
   * Lets the page get so many bytes a second.
   *
   * @param bytes -1 for as many as come
   */
  public void slow(int bytes) throws InterruptedException {
    call("Network.enable", Map.of());
    call(
        "Network.emulateNetworkConditions",
        Map.of(
            "offline", false, "latency", 0, "downloadThroughput", bytes, "uploadThroughput", -1));
  }

  /**
   * Opens a page anew.
   *
   * @param fragment of the address, with its #, or empty
   */
  public void open(Path page, String fragment) throws InterruptedException {
    open(page.toUri() + fragment);
  }

  /** Opens a page anew. */
  public void open(String address) throws InterruptedException {
    for (String url : List.of("about:blank", address)) {
      call("Page.navigate", Map.of("url", url));
      loaded();
    }
  }

  private void loaded() throws InterruptedException {
    JsonNode message;
    do {
      message = next();
    } while (!message.path("method").asText().equals("Page.loadEventFired"));
  }

  /** What a JavaScript expression gives, of which a promise is waited for, as text. */
  public String value(String expression) throws InterruptedException {
    JsonNode answer =
        call(
            "Runtime.evaluate",
            Map.of("expression", expression, "awaitPromise", true, "returnByValue", true));
    assertFalse(answer.has("exceptionDetails"), expression + ": " + answer);
    return answer.get("result").path("value").asText();
  }

  /** Waits until an expression is true. */
  public void until(String condition) throws InterruptedException {
    String seen =
        value(
            "new Promise(done => { const end = Date.now() + 30000; (function look() { if ("
                + condition
                + ") done('seen'); else if (Date.now() > end) done('never'); else"
                + " setTimeout(look, 20); })(); })");
    assertEquals("seen", seen, condition);
  }

  /** Presses a key, by the DOM's name of its place. */
  public void press(String key) throws InterruptedException {
    Map<String, Object> event = new HashMap<>();
    event.putAll(
        Map.of(
            "key",
            key.equals("Space") ? " " : key,
            "code",
            key,
            "windowsVirtualKeyCode",
            CODES.get(key)));
    if (TEXTS.containsKey(key)) {
      event.put("text", TEXTS.get(key));
    }
    for (String type : List.of("keyDown", "keyUp")) {
      event.put("type", type);
      call("Input.dispatchKeyEvent", event);
    }
  }

  /** Clicks in the middle of the first element that a CSS selector finds. */
  public void click(String selector) throws InterruptedException {
    String at =
        value(
            "{ const node = document.querySelector('%s'); node.scrollIntoView({block: 'center'});"
                    .formatted(selector)
                + " const box = node.getBoundingClientRect();"
                + " (box.x + box.width / 2) + ' ' + (box.y + box.height / 2) }");
    String[] place = at.split(" ");
    for (String type : List.of("mousePressed", "mouseReleased")) {
      call(
          "Input.dispatchMouseEvent",
          Map.of(
              "type",
              type,
              "x",
              Double.parseDouble(place[0]),
              "y",
              Double.parseDouble(place[1]),
              "button",
              "left",
              "clickCount",
              1));
    }
  }

  /** Types text where the focus is. */
  public void type(String text) throws InterruptedException {
    call("Input.insertText", Map.of("text", text));
  }

  /** The document as it is now. */
  public String document() throws InterruptedException {
    return value("document.documentElement.outerHTML");
  }

  /** Parts of the page that reach beyond the window, unless they lie in what scrolls. */
  public String overflowing() throws InterruptedException {
    return value(
        """
        { // so that it can be asked more than once
        const root = document.documentElement;
        const scrolls = node => node !== null && node !== document.body && node !== root
            && (getComputedStyle(node).overflowX !== 'visible' || scrolls(node.parentElement));
        (root.scrollWidth > innerWidth ? 'page of ' + root.scrollWidth + ' px ' : '')
            + [...document.body.querySelectorAll('*')]
            .filter(node => node.getBoundingClientRect().right > innerWidth + .5 && !scrolls(node))
            .map(node => node.tagName + ' ' + node.textContent.slice(0, 40)).join('; ')
        }
        """);
  }

  /** The whole page as PNG, to look at. */
  public void screenshot(Path file) throws IOException, InterruptedException {
    capture(file, Map.of("format", "png", "captureBeyondViewport", true));
  }

  /**
   * Makes the window as large as a picture of the documents is.
   *
   * @param picture a PNG that is there
   */
  public void windowOf(Path picture) throws IOException, InterruptedException {
    ByteBuffer header = ByteBuffer.wrap(Files.readAllBytes(picture));
    window(header.getInt(16), header.getInt(20), false);
  }

  /** Takes a picture of the documents anew, as large as it was, of the page from its top on. */
  public void retake(Path picture) throws IOException, InterruptedException {
    ByteBuffer header = ByteBuffer.wrap(Files.readAllBytes(picture));
    Map<String, Integer> part =
        Map.of("x", 0, "y", 0, "width", header.getInt(16), "height", header.getInt(20), "scale", 1);
    capture(picture, Map.of("format", "png", "captureBeyondViewport", true, "clip", part));
  }

  private void capture(Path file, Map<String, Object> wanted)
      throws IOException, InterruptedException {
    JsonNode shot = call("Page.captureScreenshot", wanted);
    Files.write(file, Base64.getDecoder().decode(shot.get("data").asText()));
  }

  @Override
  public void close() {
    socket.abort();
    end(process);
  }

  private static void end(Process process) {
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
    process.onExit().join();
  }
}
