package dev.halter.serving;

import static dev.halter.serving.TestServer.DOG;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code doc/serve.md} asks of a server, and what it says that the server says. */
class ServeDocumentTest {
  private static final Pattern CURL = Pattern.compile("curl -s localhost:8000(\\S+) -d '([^']+)'");
  private static final Pattern ANSWER = Pattern.compile("```json\n(.*?)\n```", Pattern.DOTALL);

  @TempDir Path plans;

  @Test
  void itsRequestsAreAnsweredAsItSays() throws IOException {
    String page = withVariables(Files.readString(Path.of("src/main/doc/serve.md")));
    try (Stream<Path> files = Files.list(TestServer.PLANS)) {
      for (Path file : files.toList()) {
        Files.copy(file, plans.resolve(file.getFileName()));
      }
    }
    Path sides = TestServer.DEMO.resolve("vectors");
    CommandLineRun fit =
        CommandLineRun.halter(
            "vectors",
            "fit",
            "--out",
            plans.resolve("rude.gguf"),
            "--positive",
            sides.resolve("rude.jsonl"),
            "--negative",
            sides.resolve("kind.jsonl"));
    assertEquals(0, fit.code(), fit.err());
    try (TestServer server = TestServer.setup().plans(plans).start()) {
      Matcher curl = CURL.matcher(page);
      Matcher answer = ANSWER.matcher(page);
      assertTrue(curl.find() && answer.find());
      JsonNode given = server.send("POST", curl.group(1), curl.group(2)).ok();
      assertSays(CommandLineRun.parse(answer.group(1)), given, "");
      assertTrue(curl.find());
      JsonNode other = server.send("POST", curl.group(1), curl.group(2)).ok();
      assertEquals(DOG, other.get("choices").get(0).get("text").asText());
      List<String> ids = new ArrayList<>();
      for (int i = 0; i < 4; i++) { // of the dialects
        assertTrue(curl.find());
        JsonNode halter = server.send("POST", curl.group(1), curl.group(2)).ok().get("halter");
        JsonNode report = halter.get("report").get("interventions").get(0);
        assertTrue(report.get("mean_change").asDouble() > 1, report.toString());
        ids.add(halter.get("plan_id").asText());
      }
      assertEquals(ids.get(1), ids.get(2));
      assertEquals(3, Set.copyOf(ids).size());
      readsAsItSays(server, curl);
    }
  }

  /** A page with what its variables of the shell hold. */
  private static String withVariables(String page) {
    assertTrue(page.contains("B=$(printf '\\x80\\x3f%.0s' $(seq 192) | base64 -w0)"));
    assertTrue(page.contains("V=\"[1$(printf ',1%.0s' $(seq 191))]\""));
    byte[] ones = new byte[2 * 192];
    for (int i = 0; i < ones.length; i += 2) {
      ones[i] = (byte) 0x80;
      ones[i + 1] = 0x3f;
    }
    return page.replace("'\"$B\"'", Base64.getEncoder().encodeToString(ones))
        .replace("'\"$V\"'", "[1" + ",1".repeat(191) + "]");
  }

  /** The requests that read, in their order, and what the page says of their answers. */
  private static void readsAsItSays(TestServer server, Matcher curl) throws IOException {
    assertTrue(curl.find());
    JsonNode capture =
        server.send("POST", curl.group(1), curl.group(2)).ok().get("halter").get("capture");
    assertEquals("[[9]]", capture.get("positions").toString());
    Path file = Files.createTempFile("capture", ".safetensors");
    byte[] bytes = Base64.getDecoder().decode(capture.get("base64").asText());
    try (Safetensors tensors = Safetensors.open(Files.write(file, bytes))) {
      assertTrue(tensors.tensor("0/blocks.3.hook_resid_post").hasShape(1, 192));
    } finally {
      Files.delete(file);
    }
    assertTrue(curl.find());
    JsonNode neurons = server.send("POST", curl.group(1), curl.group(2)).ok().get("data");
    assertEquals(3, neurons.size());
    assertTrue(curl.find());
    List<JsonNode> events = server.send("POST", curl.group(1), curl.group(2)).events();
    assertEquals(
        "{\"progress\":{\"done\":%1$d,\"total\":%1$d}}".formatted(Demo.CONFIG.nLayers()),
        events.get(events.size() - 2).toString());
    assertTrue(events.getLast().has("delta_logit"));
    assertFalse(curl.find(), "a request that nobody tries");
  }

  /** The same keys and values, but for ids, times and rounding. */
  private static void assertSays(JsonNode page, JsonNode given, String at) {
    if (page.isObject()) {
      List<String> keys = CommandLineRun.keys(page);
      assertEquals(keys, CommandLineRun.keys(given), at);
      keys.forEach(key -> assertSays(page.get(key), given.get(key), at + "." + key));
    } else if (page.isArray()) {
      assertEquals(page.size(), given.size(), at);
      Iterator<JsonNode> each = given.elements();
      page.forEach(item -> assertSays(item, each.next(), at + "[]"));
    } else if (page.isFloatingPointNumber()) {
      assertEquals(page.asDouble(), given.asDouble(), 0.05, at);
    } else if (!at.equals(".id") && !at.equals(".created")) {
      assertEquals(page, given, at);
    }
  }
}
