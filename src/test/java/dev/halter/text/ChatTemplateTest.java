package dev.halter.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.JsonObject;
import dev.halter.text.jinja.TemplateException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where the template and its tokens come from; what they print is held to goldens elsewhere. */
class ChatTemplateTest {
  private static final List<Message> HI = List.of(new Message("user", "hi"));

  @TempDir private Path folder;

  @Test
  void theTemplateIsInTheTokenizersConfiguration() throws IOException {
    config(
        "{\"chat_template\": \"{{ bos_token }}{{ messages[0].content }}\","
            + " \"bos_token\": \"<s>\"}");
    assertEquals("<s>hi", render());
  }

  @Test
  void ofNamedTemplatesTheDefaultCounts() throws IOException {
    config(
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"},"
            + " {\"template\": \"yes\", \"name\": \"default\"},"
            + " {\"name\": \"rag\", \"template\": \"no\"}]}");
    assertEquals("yes", render());
  }

  @Test
  void aFileOfItsOwnComesFirst() throws IOException {
    config("{\"chat_template\": \"config\", \"eos_token\": \"</s>\"}");
    Files.writeString(folder.resolve("chat_template.jinja"), "file{{ eos_token }}\n");
    assertEquals("file</s>", render());
  }

  @Test
  void tokensMayBeObjectsNullOrInTheSpecialTokensMap() throws IOException {
    config(
        "{\"chat_template\": \"{{ bos_token }}{{ eos_token }}[{{ pad_token }}]"
            + "{{ unk_token is defined }}\","
            + " \"bos_token\": {\"__type\": \"AddedToken\", \"content\": \"<s>\","
            + " \"lstrip\": false},"
            + " \"pad_token\": null, \"added_tokens_decoder\": {\"0\": {\"content\": \"x\"}}}");
    Files.writeString(
        folder.resolve("special_tokens_map.json"),
        "{\"bos_token\": \"not this\", \"eos_token\": {\"content\": \"</s>\"}}");
    assertEquals("<s></s>[]False", render());
  }

  @Test
  void aModelWithoutTemplateSaysWhatToDo() throws IOException {
    config("{\"bos_token\": \"<s>\"}");
    String message =
        assertThrows(IllegalArgumentException.class, () -> ChatTemplate.load(folder)).getMessage();
    assertTrue(message.startsWith(folder.toString()), message);
    assertTrue(message.contains("plain text"), message);
  }

  @Test
  void brokenConfigurationsAreRefusedByName() throws IOException {
    for (String broken :
        List.of("", "[]", "{", "{\"chat_template\": [1]}", "{\"chat_template\": [")) {
      config(broken);
      String message =
          assertThrows(IllegalArgumentException.class, () -> ChatTemplate.load(folder))
              .getMessage();
      assertTrue(message.startsWith(folder.resolve("tokenizer_config.json").toString()), message);
    }
  }

  @Test
  void furtherVariablesReachTheTemplateButCannotReplaceTheMessages() {
    ChatTemplate template =
        ChatTemplate.of("{{ messages[0].content }}{{ enable_thinking }}{{ tools }}", Map.of());
    Map<String, Object> variables =
        Map.of("enable_thinking", false, "messages", List.of(), "tools", List.of(1));
    assertEquals("hiUndefined", template.render(HI, false).replace("None", "Undefined"));
    assertEquals("hiFalse[1]", template.render(HI, false, variables));
  }

  @Test
  void theTemplatesOwnRefusalIsTheReason() {
    ChatTemplate template =
        ChatTemplate.of("\n{{ raise_exception('No ' ~ messages[0].role) }}", Map.of());
    TemplateException refusal =
        assertThrows(TemplateException.class, () -> template.render(HI, true));
    assertEquals("No user", refusal.reason());
    assertEquals(2, refusal.line());
    assertEquals("chat template, line 2: No user", refusal.getMessage());
  }

  private void config(String json) throws IOException {
    Files.writeString(folder.resolve("tokenizer_config.json"), json);
  }

  private String render() {
    return ChatTemplate.load(folder).render(HI, false);
  }

  /** A message is to its template what it is to transformers: every key, as it stands. */
  @Test
  void messagesReachTheTemplateAsTheyAre() {
    String template =
        "{% for m in messages %}[{{ m.role }}|{{ m.content }}|{{ m.content is string }}"
            + "{% if m.content is iterable and m.content is not string %}"
            + "{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}"
            + "|{{ m.reasoning_content }}|{{ m.name }}|{{ m.tool_calls|tojson if m.tool_calls }}]"
            + "{% endfor %}";
    String json =
        """
        {"messages": [
          {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
          {"role": "assistant", "content": null, "reasoning_content": "so", "name": "x",
           "tool_calls": [{"id": 7, "function": {"name": "f", "arguments": {"y": 1.5}}}]},
          {"role": "assistant", "tool_calls": []},
          {"role": "tool", "content": "c"}]}""";
    List<Message> messages =
        Message.list(JsonObject.parse(Path.of("f"), json.getBytes(StandardCharsets.UTF_8)));
    assertEquals(
        "[user|[{'type': 'text', 'text': 'a'}, {'type': 'text', 'text': 'b'}]|False<a><b>|||]"
            + "[assistant|None|False|so|x|"
            + "[{\"id\": 7, \"function\": {\"name\": \"f\", \"arguments\": {\"y\": 1.5}}}]]"
            + "[assistant||False|||]"
            + "[tool|c|True|||]",
        ChatTemplate.of(template, Map.of()).render(messages, true));
    assertEquals("ab", messages.getFirst().content());
  }

  @Test
  void messagesWithoutTextAreRefused() {
    for (String message :
        List.of(
            "{\"role\": \"user\"}",
            "{\"content\": \"a\"}",
            "{\"role\": \"user\", \"text\": \"a\"}",
            "{\"role\": \"user\", \"content\": 7}",
            "{\"role\": \"user\", \"content\": [\"a\"]}",
            "{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"url\": \"x\"}]}")) {
      String json = "{\"messages\": [" + message + "]}";
      String error =
          assertThrows(
                  IllegalArgumentException.class,
                  () ->
                      Message.list(
                          JsonObject.parse(Path.of("f"), json.getBytes(StandardCharsets.UTF_8))))
              .getMessage();
      assertTrue(error.startsWith("f: ") && error.contains("messages[0]"), error);
    }
  }
}
