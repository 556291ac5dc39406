package dev.halter.concepts;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.halter.files.BadFileException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;

/**
 * Any text is a list of strings or a {@link BadFileException}, never another exception; and a list
 * that was read is the same again when it is written the plain way. {@code mvn test} runs the
 * inputs kept in the folder of this class's resources.
 */
class PythonListFuzzTest {
  private static final Path FILE = Path.of("list");

  @FuzzTest(maxDuration = "30s")
  void anyText(byte[] bytes) {
    String text = new String(bytes, StandardCharsets.UTF_8);
    List<String> strings;
    try {
      strings = PythonList.read(FILE, text);
    } catch (BadFileException expected) {
      return; // a clear refusal is as good as a value
    }
    if (!PythonList.read(FILE, literal(strings)).equals(strings)) {
      throw new AssertionError(text + " was read as " + strings);
    }
  }

  /** Every character as its escape. */
  private static String literal(List<String> strings) {
    StringBuilder literal = new StringBuilder("[");
    for (String string : strings) {
      literal.append('"');
      string.codePoints().forEach(c -> literal.append("\\U%08x".formatted(c)));
      literal.append("\",");
    }
    return literal.append(']').toString();
  }
}
