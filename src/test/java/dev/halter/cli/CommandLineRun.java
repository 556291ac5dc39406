package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** One run of the command line inside the tests' JVM: its exit code and what it printed. */
public record CommandLineRun(int code, String out, String err) {
  private static final ObjectMapper MAPPER =
      new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  /**
   * The line by which a machine that has a CUDA driver, which the stand-in for it is too once some
   * test has loaded it, says that it takes the CPU.
   */
  private static final String FALLBACK = "halter: using the CPU: [^\n]*\n";

  public static CommandLineRun halter(Object... arguments) {
    String[] words = Stream.of(arguments).map(Object::toString).toArray(String[]::new);
    PrintStream out = System.out;
    PrintStream err = System.err;
    ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
    ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
    try {
      System.setOut(new PrintStream(outBytes, true, StandardCharsets.UTF_8));
      System.setErr(new PrintStream(errBytes, true, StandardCharsets.UTF_8));
      int code = Halter.run(words);
      return new CommandLineRun(
          code,
          outBytes.toString(StandardCharsets.UTF_8),
          errBytes.toString(StandardCharsets.UTF_8).replaceFirst(FALLBACK, ""));
    } finally {
      System.setOut(out);
      System.setErr(err);
    }
  }

  /** What runs the command line in a JVM of its own, too short-lived for the second compiler. */
  public static ProcessBuilder process(Object... arguments) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-cp", System.getProperty("java.class.path")));
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-XX:TieredStopAtLevel=1");
    for (String property : List.of("halter.native", "halter.onednn", "halter.models")) {
      command.add("-D" + property + "=" + System.getProperty(property));
    }
    command.add("dev.halter.cli.Halter");
    Stream.of(arguments).map(Object::toString).forEach(command::add);
    return new ProcessBuilder(command);
  }

  /** The one JSON document that a run that is done printed, and nothing else. */
  public JsonNode json() {
    assertEquals(0, code, err);
    return parse(out);
  }

  /** The one line that a failed run printed on standard error, with nothing on standard output. */
  public String error(int expectedCode) {
    assertEquals(expectedCode, code, out + err);
    assertEquals("", out);
    List<String> lines = err.lines().toList();
    assertEquals(1, lines.size(), err);
    assertTrue(lines.getFirst().startsWith("halter: "), err);
    assertFalse(lines.getFirst().contains("Exception"), err);
    return lines.getFirst();
  }

  /** Parses text that is one JSON document. */
  public static JsonNode parse(String text) {
    try {
      return MAPPER.readTree(text);
    } catch (JsonProcessingException e) {
      throw new AssertionError("not one JSON document: " + text, e);
    }
  }

  /** The keys of an object in their order. */
  public static List<String> keys(JsonNode object) {
    List<String> keys = new ArrayList<>();
    object.fieldNames().forEachRemaining(keys::add);
    return keys;
  }

  /** The lines of a result file by their id, or by {@code line N} where they have none. */
  public static Map<String, JsonNode> results(Path file) throws IOException {
    Map<String, JsonNode> results = new LinkedHashMap<>();
    for (String line : Files.readAllLines(file)) {
      JsonNode json = parse(line);
      String key = json.get("id").isNull() ? "line " + json.get("line") : json.get("id").asText();
      assertTrue(results.put(key, json) == null, key + " has two results");
    }
    return results;
  }

  public static Path golden(String name) {
    return Path.of("src/test/resources/goldens", name);
  }
}
