package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** RFC 4180: quotes, line ends inside of fields, and what is refused with its line. */
class CsvTest {
  private static List<Map<String, String>> parse(String text) {
    return Csv.parse(Path.of("table.csv"), text);
  }

  @Test
  void fieldsMayHoldCommasQuotesAndLineEnds() {
    String text = "id,prompt\r\n1,\"Say \"\"no\"\",\r\nthen go\"\r\n\r\n2,\n\"\",'a\"b'";
    assertEquals(
        List.of(
            Map.of("id", "1", "prompt", "Say \"no\",\r\nthen go"),
            Map.of("id", "2", "prompt", ""),
            Map.of("id", "", "prompt", "'a\"b'")),
        parse(text));
    assertEquals(List.of(), parse("id,prompt\n"));
    assertEquals(List.of(), parse(""));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "a,b;1,2;3 | line 3 has 1 fields",
        "a,b;1,2,3 | line 2 has 3 fields",
        "a,b;\"x;y\",2;\"z\",\"1 | line 4 opens a quote",
        "a,b;\"x\"y,2 | line 2 has text after a closing quote",
        "a,a;1,2 | line 2 has 2 fields"
      })
  void badLinesAreNamed(String text, String message) {
    BadFileException error =
        assertThrows(BadFileException.class, () -> parse(text.replace(';', '\n')));
    assertTrue(error.getMessage().contains(message), error.getMessage());
    assertTrue(error.getMessage().contains("table.csv"), error.getMessage());
  }
}
