package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class TenLinesTest {
  private static final Path SOURCE = Path.of("src/test/java/dev/halter/snippets/TenLines.java");

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
  void readmeShowsTheseLines() throws Exception {
    String source = Files.readString(SOURCE);
    String marked = "// @start region=\"ten\"\n";
    String lines =
        source
            .substring(source.indexOf(marked) + marked.length(), source.indexOf("    // @end"))
            .stripIndent()
            .strip();
    assertTrue(lines.startsWith("try (LanguageModel model"), lines);
    String readme = Files.readString(Path.of("README.md"));
    assertTrue(readme.contains("```java\n" + lines + "\n```"), "README has other lines");
  }
}
