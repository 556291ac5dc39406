package dev.halter.text;

import com.code_intelligence.jazzer.api.FuzzedDataProvider;
import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A tokenizer.json with some of its values exchanged works or is refused; it never ends the
 * process. {@code mvn test} runs the inputs kept beside this class; {@code JAZZER_FUZZ=1 mvn test
 * -Dtest=...} looks for more.
 */
class TokenizerFuzzTest {
  private static final String[] VALUES = {
    "null",
    "0",
    "-1",
    "4294967295",
    "1e99",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "true",
    "\"Split\"",
    "\"ByteLevel\"",
    "\"Sequence\"",
    "\"Replace\"",
    "\"Strip\"",
    "\"Metaspace\"",
    "\"Prepend\"",
    "\"▁\"",
    "\"Isolated\"",
    "\"Removed\"",
    "\"(\"",
    "\"(?=a)\"",
    "[{\"SpecialToken\":{\"id\":\"x\"}}]",
  };

  @FuzzTest
  void anyTokenizer(FuzzedDataProvider data) throws IOException, URISyntaxException {
    String kind = data.consumeBoolean() ? "byte-level" : "byte-fallback";
    Path usual = Path.of(TokenizerFuzzTest.class.getResource("/text/tokenizers/" + kind).toURI());
    StringBuilder json = new StringBuilder(Files.readString(usual.resolve("tokenizer.json")));
    while (data.remainingBytes() > 0) {
      int colon = json.indexOf(":", data.consumeInt(0, json.length() - 1));
      if (colon >= 0) {
        json.replace(colon + 1, endOfValue(json, colon + 1), data.pickValue(VALUES));
      }
    }
    Path folder = Files.createTempDirectory("tokenizer-fuzz");
    Path file = Files.writeString(folder.resolve("tokenizer.json"), json);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      int[] tokens = tokenizer.encode("Hello <s> <|begin|> 🦙 x", true);
      tokenizer.decode(tokens, false);
      tokenizer.decode(new int[] {0, 1, 300, 99_999}, true);
    } catch (IllegalArgumentException expected) {
      // a clear refusal is as good as tokens
    } finally {
      Files.delete(file);
      Files.delete(folder);
    }
  }

  /** The end of the JSON value that starts at {@code start}. */
  private static int endOfValue(CharSequence json, int start) {
    int depth = 0;
    boolean inString = false;
    for (int i = start; i < json.length(); i++) {
      char c = json.charAt(i);
      if (inString) {
        i += c == '\\' ? 1 : 0;
        inString = c != '"';
      } else if (c == '"') {
        inString = true;
      } else if (c == '[' || c == '{') {
        depth++;
      } else if (depth == 0 && (c == ',' || c == ']' || c == '}')) {
        return i;
      } else if (c == ']' || c == '}') {
        depth--;
      }
    }
    return json.length();
  }
}
