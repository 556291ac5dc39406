package dev.halter.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.text.jinja.Template;
import dev.halter.text.jinja.TemplateException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * Character for character what transformers and jinja2 print; tools/goldens/chat_templates.py made
 * the expectations.
 */
class ChatTemplateGoldensTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final JsonNode GOLDENS = read();

  @TestFactory
  Stream<DynamicNode> promptsEqualThoseOfTransformers() {
    return stream(GOLDENS.get("families"))
        .map(
            family ->
                dynamicContainer(
                    family.get("name").asText(),
                    stream(family.get("cases")).map(c -> prompt(family, c))));
  }

  private static DynamicTest prompt(JsonNode family, JsonNode c) {
    String conversation = c.get("conversation").asText();
    boolean generate = c.get("add_generation_prompt").asBoolean();
    return dynamicTest(
        conversation + (generate ? ", to be answered " : " ") + c.get("variables").toString(),
        () -> {
          ChatTemplate template = template(family);
          List<Message> messages =
              stream(GOLDENS.get("conversations").get(conversation))
                  .map(m -> new Message(map(m)))
                  .toList();
          Map<String, Object> variables = map(c.get("variables"));
          check(c, () -> template.render(messages, generate, variables));
        });
  }

  /** The demo model's as it ships, the others from the test's resources. */
  private static ChatTemplate template(JsonNode family) throws IOException {
    String name = family.get("name").asText();
    return name.equals("demo")
        ? ChatTemplate.load(Path.of(System.getProperty("halter.models"), name))
        : ChatTemplate.of(
            resource("templates/" + name + ".jinja"),
            JSON.convertValue(family.get("special_tokens"), new TypeReference<>() {}),
            ChatTemplateGoldensTest::now);
  }

  @TestFactory
  Stream<DynamicTest> constructsPrintAsInJinja2() {
    Map<String, Object> values = map(GOLDENS.get("values"));
    return stream(GOLDENS.get("constructs"))
        .map(
            c -> {
              String source = c.get("template").asText();
              return dynamicTest(
                  source.isBlank() ? "blank" : source.replaceAll("\\s", " "),
                  () ->
                      check(
                          c,
                          () ->
                              Template.parse(source).render(values, ChatTemplateGoldensTest::now)));
            });
  }

  /** Where the template itself raised the error its words count, else only that there is one. */
  private static void check(JsonNode c, Supplier<String> rendered) {
    if (c.has("expected")) {
      assertEquals(c.get("expected").asText(), rendered.get());
      return;
    }
    TemplateException refusal = assertThrows(TemplateException.class, rendered::get);
    if (!c.get("error").isNull()) {
      assertEquals(c.get("error").asText(), refusal.reason());
    }
  }

  private static Map<String, Object> map(JsonNode node) {
    return JSON.convertValue(node, new TypeReference<>() {});
  }

  private static Stream<JsonNode> stream(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false);
  }

  private static JsonNode read() {
    try {
      return JSON.readTree(resource("chat-templates.json"));
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static String resource(String name) throws IOException {
    try (InputStream in = ChatTemplateGoldensTest.class.getResourceAsStream("/text/" + name)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  private static ZonedDateTime now() {
    return LocalDateTime.parse(GOLDENS.get("now").asText()).atZone(ZoneOffset.UTC);
  }
}
