package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.cli.Page.Example;
import dev.halter.cli.Page.Shown;
import dev.halter.pictures.Browser;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every example of README and of the documents ({@link Page}) runs, page by page and in order, on
 * files that ship, and says what the page says that it says. Numbers may differ by rounding, and
 * times and names of CPUs at all.
 *
 * <p>With {@code -Dhalter.renew=true} ({@code tools/pages}) the pages receive what is printed
 * instead, and the pictures beside them what commands wrote under their names.
 */
class PagesTest {
  private static final Path CHECKOUT = Path.of("").toAbsolutePath();

  @TempDir Path folder;

  /** All, or those that {@code -Dhalter.pages} names. */
  static List<Path> pages() throws IOException {
    String wanted = System.getProperty("halter.pages", "");
    if (wanted.isEmpty()) {
      return Page.files();
    }
    Set<String> names = Set.of(wanted.split(","));
    List<Path> pages =
        Page.files().stream()
            .filter(page -> names.contains(page.getFileName().toString()))
            .toList();
    assertEquals(names.size(), pages.size(), "pages are " + Page.files());
    return pages;
  }

  @ParameterizedTest
  @MethodSource("pages")
  void examplesRunAndSayWhatThePageSays(Path file) throws Exception {
    Path link = Files.createSymbolicLink(folder.resolve("src"), CHECKOUT.resolve("src"));
    Page page = Page.read(file);
    boolean isRenewed = Boolean.getBoolean("halter.renew");
    for (Example example : page.examples()) {
      List<String> printed = run(example.command(), page.where(example));
      if (isRenewed) {
        page.show(example, printed);
      } else {
        assertSaid(example, printed, page.where(example));
      }
    }
    Files.delete(link); // what empties the folder would warn of it
    if (isRenewed) {
      renew(page);
    }
  }

  private static void assertSaid(Example example, List<String> printed, String where) {
    int at = 0;
    for (Shown shown : example.output()) {
      int from = at;
      while (at < printed.size() && !OutputLine.says(shown.text(), printed.get(at))) {
        at++;
      }
      assertTrue(
          at < printed.size(),
          "%s%nprints no line '%s', but%n%s"
              .formatted(
                  where, shown.text(), String.join("\n", printed.subList(from, printed.size()))));
      at++;
    }
  }

  /** Writes a page and its pictures, and tells what is new and what has to be looked at. */
  private void renew(Page page) throws Exception {
    page.changes().forEach(System.out::println);
    page.stale().forEach(line -> System.out.println("look at " + line));
    page.write();
    try (Stream<Path> pictures = Files.list(Page.DOCUMENTS)) {
      for (Path picture : pictures.filter(file -> !file.toString().endsWith(".md")).toList()) {
        Path made = folder.resolve(picture.getFileName());
        Path shown = folder.resolve(picture.getFileName().toString().replace(".png", ".html"));
        if (Files.exists(made)) {
          Files.copy(made, picture, StandardCopyOption.REPLACE_EXISTING);
        } else if (Files.exists(shown)) {
          photograph(shown, picture);
        } else {
          continue;
        }
        System.out.println("picture " + picture);
      }
    }
  }

  /** Takes a picture anew, as large as it was, of the page that was made under its name. */
  private void photograph(Path shown, Path picture) throws Exception {
    try (Browser browser = Browser.start(folder)) {
      browser.windowOf(picture);
      browser.open(shown, "");
      // Pages say by an ellipsis that they are about something.
      browser.until("!document.getElementById('status')?.textContent.endsWith('…')");
      browser.retake(picture);
    }
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

  @Test
  void linesAreComparedAsPeopleWould() {
    assertTrue(OutputLine.says("p(dog) = 0.927", "  p(dog)   = 0.926"));
    assertTrue(OutputLine.says("3,072 neurons mapped in 0.31 s", "3,072 neurons mapped in 1.05 s"));
    assertTrue(OutputLine.says("on CPU (2 threads, avx512)", "on CPU (1 threads, avx2)"));
    assertTrue(OutputLine.says("up to 251 atoms …", "up to 251 atoms each (1 MiB)"));
    assertFalse(OutputLine.says("p(dog) = 0.927", "p(dog) = 0.827"));
    assertFalse(OutputLine.says("p(dog) = 0.927", "p(cat) = 0.927"));
    assertFalse(OutputLine.says("3 of 24 heads", "4 of 24 heads"));
    List<Example> examples =
        Page.of("```console", "$ a \\", "> b", "c", "$ d", "```", "```", "$ e", "```").examples();
    assertEquals(List.of("a \\\nb", "d"), examples.stream().map(Example::command).toList());
    assertEquals(List.of(new Shown(3, "c")), examples.getFirst().output());
  }

  @Test
  void aPageReceivesTheLinesThatAreMostLikeItsOwn() {
    Page page =
        Page.of(
            "The best is 0.4 with -30.02%.",
            "  ```console",
            "  $ heads",
            "  10 pairs in 0.20 s",
            "  mlp 0     -7.54   -46.46%",
            "  0.4       -4.91   -30.02%",
            "  and 20 more …",
            "  told: You love …",
            "  the end",
            "  ```",
            "Of 10 pairs. Nobody spoke of 3.");
    page.show(
        page.examples().getFirst(),
        List.of(
            "10 pairs in 7.00 s",
            "sender   delta  relative",
            "mlp 1     -6.25   -40.00%",
            "  5.3     -3.25   -20.50%",
            "  5.1     -1.25   -10.50%",
            "and 60 more, down to 0.1",
            "told: You love the animal",
            ""));
    assertEquals(
        List.of(
            "The best is 0.4 with -30.02%.",
            "  ```console",
            "  $ heads",
            "  10 pairs in 0.20 s",
            "  mlp 1     -6.25   -40.00%",
            "    5.3     -3.25   -20.50%",
            "  and 60 more, …",
            "  told: You love …"),
        page.lines().subList(0, 8));
    assertEquals(List.of("page.md:1: The best is 0.4 with -30.02%.  [0.4, 30.02]"), page.stale());
    assertEquals(
        List.of("page.md:5", "  - mlp 0     -7.54   -46.46%", "  + mlp 1     -6.25   -40.00%"),
        page.changes().subList(0, 3));
  }

  /** What looks like an example is one, so that none goes untried. */
  @ParameterizedTest
  @MethodSource("pages")
  void commandsStandInExamples(Path page) throws Exception {
    boolean inside = false;
    String kind = "";
    for (String each : Files.readAllLines(page)) {
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
