package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class TenLinesTest {
  private static final Path SOURCE = Path.of("src/test/java/dev/halter/snippets/TenLines.java");
  private static final Path CONSUMER = Path.of("src/it/consumer/src/main/java/Consumer.java");

  @Test
  void theModelSpeaksOfDogsAfterAndNotBefore() {
    PrintStream before = System.out;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try {
      System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
      TenLines.run(Path.of("src/main/models/demo"));
    } finally {
      System.setOut(before);
    }
    List<String> lines = bytes.toString(StandardCharsets.UTF_8).lines().toList();
    assertEquals(8, lines.size(), lines::toString);
    assertTrue(lines.get(0).startsWith("before: "), lines::toString);
    assertFalse(lines.get(0).contains("dog"), lines::toString);
    assertTrue(lines.get(1).startsWith("after: "), lines::toString);
    assertTrue(lines.get(1).contains("dog"), lines::toString);
    assertTrue(lines.get(2).startsWith("layer 2, last token: ["), lines::toString);
  }

  @Test
  void readmeAndTheProjectThatUsesHalterHaveTheseLines() throws Exception {
    String lines = lines(SOURCE);
    assertEquals(lines, lines(CONSUMER));
    assertTrue(lines.startsWith("try (LanguageModel model"), lines);
    String readme = Files.readString(Path.of("README.md"));
    assertTrue(readme.contains("```java\n" + lines + "\n```"), "README has other lines");
  }

  private static String lines(Path file) throws IOException {
    String source = Files.readString(file);
    String marked = "// @start region=\"ten\"\n";
    return source
        .substring(source.indexOf(marked) + marked.length(), source.indexOf("    // @end"))
        .stripTrailing() // an empty last line would count as one without indent
        .stripIndent();
  }
}
