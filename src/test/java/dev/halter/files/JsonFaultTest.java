package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class JsonFaultTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{\"a\":NaN}|NaN and infinities are no numbers in JSON (line 1, column 9)",
        "{\"a\":-Infinity}|NaN and infinities are no numbers in JSON (line 1, column 15)",
        "{\"a\":01}|a number begins with a zero (line 1, column 7)",
        "{\"a\":+1}|'+' cannot stand here (line 1, column 7)",
        "{\"a\":1.}|'}' cannot stand here (line 1, column 7)",
        "{\"a\":True}|'True' cannot stand here (line 1, column 6)",
        "{\"a\":'x'}|''' cannot stand here (line 1, column 6)",
        "{a:1}|'a' cannot stand here (line 1, column 2)",
        "{\"a\":1,}|'}' cannot stand here (line 1, column 8)",
        "{\"a\":[1}|'}' cannot stand here (line 1, column 8)",
        "{\"a\":1 //x}|'/' cannot stand here (line 1, column 8)",
        "{\"a\":\"x\ty\"}|a text holds a control character, which must be escaped (a line break as"
            + " \\n) (line 1, column 8)",
        "{\"a\":\u0000}|a control character cannot stand here (line 1, column 7)",
        "{\"a\":\"\\q\"}|a text has a backslash that is followed by no escape of JSON (line 1,"
            + " column 8)",
        "{\"a\":1|the text ends too early (line 1, column 7)",
        "{\"a\":\"x|the text ends too early (line 1, column 8)",
        "{\"a\":[|the text ends too early (line 1, column 7)",
        "{\"a\":1,\"a\":2}|the key \"a\" comes twice (line 1, column 11)",
      })
  void whatIsWrongIsSaidInOurWords(String json, String words) {
    assertEquals("f: is not valid JSON: " + words, error(json));
  }

  @Test
  void longNumbersAndDeepListsNameNoSwitchOfTheParser() {
    for (String number : new String[] {"1".repeat(2000), "0." + "1".repeat(2000)}) {
      assertTrue(error("{\"a\":" + number + "}").contains("more than 1000 digits"));
    }
    String deep = error("{\"a\":" + "[".repeat(2000) + "}");
    assertTrue(deep.contains("nested more than"), deep);
    JsonObject json = parse("{\"a\":" + "1".repeat(900) + "}");
    String range = assertThrows(BadFileException.class, () -> json.integer("a", 0, 5)).getMessage();
    assertTrue(range.length() < 200 && range.contains("from 0 to 5"), range);
  }

  @Test
  void aByteOrderMarkIsSkipped() {
    assertEquals(1, parse("\uFEFF{\"a\":1}").integer("a", 0, 5));
    JsonObject list =
        JsonObject.parseList(
            Path.of("f"), "items", "\uFEFF[{\"a\":2}]".getBytes(StandardCharsets.UTF_8));
    assertEquals(2, list.objects("items").getFirst().integer("a", 0, 5));
  }

  private static String error(String json) {
    String message = assertThrows(BadFileException.class, () -> parse(json)).getMessage();
    assertFalse(message.contains("REDACTED") || message.contains("`"), message);
    return message;
  }

  private static JsonObject parse(String json) {
    return JsonObject.parse(Path.of("f"), json.getBytes(StandardCharsets.UTF_8));
  }
}
