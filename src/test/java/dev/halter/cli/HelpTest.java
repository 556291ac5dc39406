package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import picocli.CommandLine;
import picocli.CommandLine.Model.UsageMessageSpec;

/** Help pages, what a mistyped word was meant to be, and completion in a shell. */
class HelpTest {
  private static final int WIDTH = 100;

  @TempDir Path folder;

  /** The words of every command and their commands. */
  static List<String> commands() {
    List<String> found = new ArrayList<>();
    addCommands(Halter.ofAllCommands(), "", found);
    return found;
  }

  private static void addCommands(CommandLine line, String path, List<String> found) {
    line.getSubcommands()
        .forEach(
            (name, command) -> {
              found.add(path + name);
              addCommands(command, path + name + " ", found);
            });
  }

  private static CommandLine command(String path) {
    CommandLine command = Halter.ofAllCommands();
    for (String word : path.split(" ")) {
      command = command.getSubcommands().get(word);
    }
    return command;
  }

  /** What a list of commands shows of it. */
  private static String summary(String path) {
    UsageMessageSpec usage = command(path).getCommandSpec().usageMessage();
    return usage.header().length > 0 ? usage.header()[0] : usage.description()[0];
  }

  @ParameterizedTest
  @MethodSource("commands")
  void everySummaryIsASentenceThatFitsItsLine(String path) {
    String summary = summary(path);
    assertTrue(summary.matches("[A-Z][a-z]*s [^.]*(\\.[^ ][^.]*)*\\."), summary);
    String parent = path.contains(" ") ? path.substring(0, path.lastIndexOf(' ')) : "";
    String list = halter((Object[]) (parent + " --help").strip().split(" ")).out();
    String name = path.substring(path.lastIndexOf(' ') + 1);
    assertTrue(
        list.lines().anyMatch(line -> line.matches("  " + name + " +\\Q" + summary + "\\E")),
        summary + " is cut in " + list);
  }

  @ParameterizedTest
  @MethodSource("commands")
  void helpOfAnyCommandIsItsPageWithoutAWarning(String path) {
    String[] asked = ("help " + path).split(" ");
    CommandLineRun help = halter((Object[]) asked);
    assertEquals(0, help.code(), help.err());
    assertEquals("", help.err());
    assertEquals(halter((Object[]) (path + " --help").split(" ")).out(), help.out());
    assertTrue(help.out().startsWith("Usage: halter " + path), help.out());
    assertFalse(help.out().contains("%" + "%"), help.out());
    help.out().lines().forEach(line -> assertTrue(line.length() <= WIDTH, line));
  }

  @Test
  void helpAloneListsTheCommands() {
    assertEquals(halter("--help").out(), halter("help").out());
  }

  @ParameterizedTest
  @MethodSource("commands")
  void optionsOfTheMachineStandUnderOneHeading(String path) {
    Set<String> names = command(path).getCommandSpec().optionsMap().keySet();
    String page = halter((Object[]) (path + " --help").split(" ")).out();
    int machine = page.indexOf("\nModel and machine:\n");
    int everywhere = page.indexOf("\nOf every command:\n");
    assertEquals(names.contains("--device"), machine >= 0, page);
    if (machine >= 0) {
      for (String option : List.of("--model", "--device", "--dtype", "--threads", "--context")) {
        int at = page.lastIndexOf(" " + option + "=");
        assertTrue(at > machine && at < everywhere, option + " in " + page);
      }
      assertTrue(page.indexOf(" --debug ", everywhere) > 0, page);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "genrate --ask x, halter has no command 'genrate'; did you mean generate?",
    "generate --promt x, halter generate has no option '--promt'; did you mean --prompt?",
    "info --devcie=cpu, halter info has no option '--devcie'; did you mean --device?",
    "heads pach, halter heads has no command 'pach'; did you mean patch?",
    "help heads pach, halter heads has no command 'pach'; did you mean patch?",
    "help genrate, halter has no command 'genrate'; did you mean generate?",
    "dance, halter has no command 'dance' (halter --help tells more)",
    "info --%s, halter info has no option '--%s' (",
  })
  void aMistypedWordSaysWhatWasMeant(String arguments, String said) {
    String error = halter((Object[]) arguments.split(" ")).error(2);
    assertTrue(error.startsWith("halter: " + said), error);
  }

  @Test
  void aShellCompletesCommandsOptionsAndFiles() throws Exception {
    Path bash = Path.of("/bin/bash");
    assumeTrue(Files.isExecutable(bash), "no bash");
    Path script = folder.resolve("completion.bash");
    Files.writeString(script, halter("completion", "bash").out());
    assertEquals(halter("completion", "bash").out(), halter("completion", "zsh").out());
    Files.createFile(folder.resolve("pairs.jsonl"));
    assertEquals(List.of("pairs", "patch"), completions(script, "heads", "pa"));
    assertEquals(List.of("compare", "completion", "concepts"), completions(script, "co"));
    assertEquals(List.of("concepts"), completions(script, "help", "conc"));
    assertEquals(List.of("--dtype"), completions(script, "generate", "--dt"));
    assertEquals(List.of("--pairs"), completions(script, "heads", "patch", "--pa"));
    assertEquals(List.of("pairs.jsonl"), completions(script, "heads", "patch", "--pairs", "pa"));
    assertEquals(List.of(), completions(script, "heads", "dance"));
    assertEquals(
        commands().stream().filter(path -> !path.contains(" ")).sorted().toList(),
        completions(script, "").stream().filter(word -> !word.startsWith("-")).toList());
  }

  /** What bash offers for the last of some words after {@code halter}, as Tab would. */
  private List<String> completions(Path script, String... words)
      throws IOException, InterruptedException {
    String line = String.join("' '", words);
    // compopt is for a completion that readline has begun.
    String asked =
        """
        compopt() { :; }
        source '%s'
        COMP_WORDS=(halter '%s'); COMP_CWORD=%d
        _complete_halter; printf '%%s\\n' "${COMPREPLY[@]}"
        """
            .formatted(script, line, words.length);
    Process process =
        new ProcessBuilder("/bin/bash", "-c", asked)
            .directory(folder.toFile())
            .redirectErrorStream(true)
            .start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), out);
    return out.lines().filter(word -> !word.isBlank()).sorted().toList();
  }

  @Test
  void anUnknownShellIsRefused() {
    assertTrue(halter("completion", "fish").error(2).contains("bash, zsh"));
  }
}
