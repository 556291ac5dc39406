package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.text.ChatTemplate;
import dev.halter.text.Message;
import dev.halter.text.Tokenizer;
import dev.halter.text.jinja.Template;
import java.nio.file.Path;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.text} and its room show. */
class TextSnippetsTest {
  @Test
  void tokens() {
    Path folder = Path.of("src/main/models/demo");
    String read;
    // @start region="tokens"
    ChatTemplate template = ChatTemplate.load(folder);
    String prompt = template.render(List.of(new Message("user", "Name an animal.")), true);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      int[] tokens = tokenizer.encode(prompt, false); // the template has brought special tokens
      read = tokenizer.decode(tokens, true);
    }
    // @end
    assertTrue(read.contains("Name an animal."), read);
  }

  @Test
  void template() {
    // @start region="template"
    Template template = Template.parse("{% for name in names %}{{ name | upper }};{% endfor %}");
    String text = template.render(Map.of("names", List.of("ann", "bob")), ZonedDateTime::now);
    // @end
    assertEquals("ANN;BOB;", text);
  }
}
