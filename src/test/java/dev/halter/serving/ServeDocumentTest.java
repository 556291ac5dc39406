package dev.halter.serving;

import static dev.halter.serving.TestServer.DOG;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Iterator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** What {@code doc/serve.md} asks of a server, and what it says that the server says. */
class ServeDocumentTest {
  private static final Pattern CURL = Pattern.compile("curl -s localhost:8000(\\S+) -d '([^']+)'");
  private static final Pattern ANSWER = Pattern.compile("```json\n(.*?)\n```", Pattern.DOTALL);

  @Test
  void itsRequestsAreAnsweredAsItSays() throws IOException {
    String page = Files.readString(Path.of("src/main/doc/serve.md"));
    try (TestServer server = TestServer.start()) {
      Matcher curl = CURL.matcher(page);
      Matcher answer = ANSWER.matcher(page);
      assertTrue(curl.find() && answer.find());
      JsonNode given = server.send("POST", curl.group(1), curl.group(2)).ok();
      assertSays(CommandLineRun.parse(answer.group(1)), given, "");
      assertTrue(curl.find());
      JsonNode other = server.send("POST", curl.group(1), curl.group(2)).ok();
      assertEquals(DOG, other.get("choices").get(0).get("text").asText());
      readsAsItSays(server, curl);
    }
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
        "{\"progress\":{\"done\":4,\"total\":4}}", events.get(events.size() - 2).toString());
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
