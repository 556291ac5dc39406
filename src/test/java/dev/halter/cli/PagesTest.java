package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every example of README and of the documents runs, page by page and in order, on files that ship,
 * and says what the page says that it says.
 *
 * <p>Examples are the blocks that are marked {@code console}: lines after {@code $} are commands
 * (those after {@code >} go on), all others are lines of their output, in their order; the output
 * may have others in between, and go on where a line ends in an ellipsis. Numbers may differ by
 * rounding, and times and names of CPUs at all.
 */
class PagesTest {
  private static final Path CHECKOUT = Path.of("").toAbsolutePath();
  private static final Path DOCUMENTS = Path.of("src/main/doc");
  private static final Pattern NUMBER = Pattern.compile("[-+]?\\d[\\d,]*(\\.\\d+)?(e[-+]\\d+)?");

  /** Numbers that no two runs have in common. */
  private static final Pattern OF_THE_MOMENT =
      Pattern.compile("[\\d.,]+ (s|ms|MB|tokens/s)\\b|CPU \\([^)]*\\)");

  @TempDir Path folder;

  /** A command and what it prints. */
  private record Example(int line, String command, List<String> output) {}

  static Stream<String> pages() throws IOException {
    try (Stream<Path> documents = Files.list(DOCUMENTS)) {
      List<String> pages =
          documents.map(Path::toString).filter(name -> name.endsWith(".md")).sorted().toList();
      return Stream.concat(Stream.of("README.md"), pages.stream());
    }
  }

  private static List<Example> examples(List<String> lines) {
    List<Example> examples = new ArrayList<>();
    boolean inside = false;
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i).strip();
      if (line.startsWith("```")) {
        inside = !inside && line.equals("```console");
      } else if (inside && line.startsWith("$ ")) {
        examples.add(new Example(i + 1, line.substring(2), new ArrayList<>()));
      } else if (inside && goesOn(examples, line)) {
        Example last = examples.removeLast();
        String more = line.startsWith("> ") ? line.substring(2) : line;
        String command = last.command + "\n" + more;
        examples.add(new Example(last.line, command, last.output));
      } else if (inside && !line.isEmpty()) {
        examples.getLast().output.add(line);
      }
    }
    return examples;
  }

  private static boolean goesOn(List<Example> examples, String line) {
    return line.startsWith("> ") || examples.getLast().command.endsWith("\\");
  }

  @ParameterizedTest
  @MethodSource("pages")
  void examplesRunAndSayWhatThePageSays(String page) throws Exception {
    Path link = Files.createSymbolicLink(folder.resolve("src"), CHECKOUT.resolve("src"));
    for (Example example : examples(Files.readAllLines(Path.of(page)))) {
      String where = page + ":" + example.line + ": " + example.command;
      List<String> printed = run(example.command, where);
      int at = 0;
      for (String expected : example.output) {
        int from = at;
        while (at < printed.size() && !says(expected, printed.get(at))) {
          at++;
        }
        assertTrue(
            at < printed.size(),
            "%s%nprints no line '%s', but%n%s"
                .formatted(
                    where, expected, String.join("\n", printed.subList(from, printed.size()))));
        at++;
      }
    }
    Files.delete(link); // what empties the folder would warn of it
  }

  private List<String> run(String command, String where) throws Exception {
    String halter =
        CommandLineRun.process().command().stream()
            .map(word -> "'" + word + "'")
            .collect(Collectors.joining(" "));
    String script = "set -o pipefail; halter() { %s \"$@\"; }%n%s%n".formatted(halter, command);
    Path out = folder.resolve(".printed");
    Process process =
        new ProcessBuilder("bash", "-c", script)
            .directory(folder.toFile())
            .redirectErrorStream(true)
            .redirectOutput(out.toFile())
            .start();
    boolean ended = process.waitFor(10, TimeUnit.MINUTES);
    process.destroyForcibly();
    List<String> printed = Files.readAllLines(out, StandardCharsets.UTF_8);
    assertTrue(ended, where + " does not end");
    assertEquals(0, process.exitValue(), where + "\n" + String.join("\n", printed));
    return printed;
  }

  /**
   * Whether a line says what the page has: the same words, and numbers as near as they are printed.
   */
  private static boolean says(String expected, String printed) {
    String wanted = OF_THE_MOMENT.matcher(expected).replaceAll("…").strip();
    String given = OF_THE_MOMENT.matcher(printed).replaceAll("…").strip();
    boolean isCut = expected.endsWith("…");
    String words = words(isCut ? wanted.substring(0, wanted.length() - 1) : wanted);
    if (!(isCut ? words(given).startsWith(words) : words(given).equals(words))) {
      return false;
    }
    Matcher numbers = NUMBER.matcher(wanted);
    Matcher others = NUMBER.matcher(given);
    while (numbers.find() && others.find()) {
      double number = value(numbers.group());
      double tolerance = Math.max(0.02 * Math.abs(number), 1.5 * lastDigit(numbers.group()));
      if (!(Math.abs(number - value(others.group())) <= tolerance)) {
        return false;
      }
    }
    return true;
  }

  private static String words(String line) {
    return NUMBER.matcher(line).replaceAll("0").replaceAll("\\s+", " ");
  }

  private static double value(String number) {
    return Double.parseDouble(number.replace(",", ""));
  }

  private static double lastDigit(String number) {
    int point = number.indexOf('.');
    return point < 0 || number.indexOf('e') >= 0 ? 0 : Math.pow(10, point + 1 - number.length());
  }

  @Test
  void linesAreComparedAsPeopleWould() {
    assertTrue(says("p(dog) = 0.927", "  p(dog)   = 0.926"));
    assertTrue(says("3,072 neurons mapped in 0.31 s", "3,072 neurons mapped in 1.05 s"));
    assertTrue(says("on CPU (2 threads, avx512)", "on CPU (1 threads, avx2)"));
    assertTrue(says("up to 251 atoms …", "up to 251 atoms each (1 MiB)"));
    assertFalse(says("p(dog) = 0.927", "p(dog) = 0.827"));
    assertFalse(says("p(dog) = 0.927", "p(cat) = 0.927"));
    assertFalse(says("3 of 24 heads", "4 of 24 heads"));
    List<Example> examples =
        examples(List.of("```console", "$ a \\", "> b", "c", "$ d", "```", "```", "$ e", "```"));
    assertEquals(List.of("a \\\nb", "d"), examples.stream().map(Example::command).toList());
    assertEquals(List.of("c"), examples.getFirst().output);
  }

  /** What looks like an example is one, so that none goes untried. */
  @ParameterizedTest
  @MethodSource("pages")
  void commandsStandInExamples(String page) throws Exception {
    boolean inside = false;
    String kind = "";
    for (String each : Files.readAllLines(Path.of(page))) {
      String line = each.strip();
      if (line.startsWith("```")) {
        inside = !inside;
        kind = line.substring(3);
      } else if (inside && !kind.equals("console")) {
        assertFalse(line.startsWith("$ "), page + ": " + line);
      }
    }
  }
}
