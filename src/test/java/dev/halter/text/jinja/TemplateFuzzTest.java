package dev.halter.text.jinja;

import com.code_intelligence.jazzer.api.FuzzedDataProvider;
import com.code_intelligence.jazzer.junit.FuzzTest;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;

/**
 * Any template over any message gives a text or a {@link TemplateException}. {@code mvn test} runs
 * the inputs kept beside this class; {@code JAZZER_FUZZ=1 mvn test -Dtest=...} looks for more.
 */
class TemplateFuzzTest {
  /** What templates are made of, so that random choices often give ones that parse. */
  private static final String[] PARTS = {
    "{{ ",
    " }}",
    "{%- ",
    " -%}",
    "{% ",
    " %}",
    "{#",
    "#}",
    "for x in ",
    "endfor",
    "if ",
    "elif ",
    "else",
    "endif",
    "set x = ",
    "set x",
    "endset",
    "set ns.x = ",
    "macro f(a, b=1)",
    "endmacro",
    "f(x)",
    "break",
    "continue",
    "raw",
    "endraw",
    "generation",
    "endgeneration",
    "messages",
    "x",
    "ns",
    "namespace(x=1)",
    "loop.index",
    "loop.previtem",
    "range(9)",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ":",
    ",",
    ".",
    "|",
    "~",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "==",
    "<",
    " in ",
    " not ",
    " and ",
    " or ",
    " is ",
    "defined",
    "none",
    "string",
    "mapping",
    "odd",
    "true",
    "1",
    "2.5",
    "'a'",
    "'\\n'",
    "\"b\"",
    "[::-1]",
    "[0]",
    ".content",
    ".role",
    ".split(",
    ".strip()",
    ".items()",
    "|trim",
    "|tojson(indent=2)",
    "|length",
    "|first",
    "|join(",
    "|map(",
    "|selectattr(",
    "|list",
    "|sort",
    "|default(",
    "|int",
    "|replace(",
    "|title",
    "\n",
    "  ",
    "raise_exception(",
    "strftime_now('%d')",
    " if ",
    " else ",
  };

  @FuzzTest
  void anyTemplate(FuzzedDataProvider data) {
    render(data);
  }

  static void render(FuzzedDataProvider data) {
    String content = data.consumeString(40);
    StringBuilder template = new StringBuilder();
    while (data.remainingBytes() > 0) {
      int part = data.consumeInt(0, PARTS.length + 5);
      template.append(part < PARTS.length ? PARTS[part] : data.consumeString(4));
    }
    Map<String, Object> values =
        Map.of("messages", List.of(Map.of("role", "user", "content", content)));
    try {
      Template.parse(template.toString()).render(values, ZonedDateTime::now);
    } catch (TemplateException expected) {
      // a clear refusal is as good as a text
    }
  }
}
