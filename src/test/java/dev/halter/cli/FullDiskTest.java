package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.parse;
import static dev.halter.cli.CommandLineRun.process;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.DType;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Every command that writes, on a file system in memory that is full: unlike {@code /dev/full} it
 * takes new names, and some bytes where there is a page left. It is mounted where only the command
 * and its shell see it, which a system may forbid.
 */
@Timeout(300)
class FullDiskTest {
  private static final int LINES = 60;

  /** Fills the disk but for so many pages, runs a command, and copies what is on the disk then. */
  private static final String SHELL =
      """
      mount -t tmpfs -o size=256k tmpfs "$DISK" || exit 99
      head -c $(( (64 - PAGES) * 4096 )) /dev/zero > "$DISK/filler" || exit 99
      if [ -n "$STDOUT" ]; then "$@" > "$DISK/out"; else "$@"; fi
      code=$?
      rm "$DISK/filler"
      cp -r "$DISK/." "$KEPT"
      exit $code
      """;

  @TempDir static Path inputs;

  @TempDir Path folder;

  @BeforeAll
  static void makeInputs() throws Exception {
    Process can =
        new ProcessBuilder("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", inputs.toString())
            .redirectErrorStream(true)
            .start();
    String why = new String(can.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assumeTrue(can.waitFor() == 0, "needs user and mount namespaces: " + why);

    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < LINES; i++) {
      lines.append("{\"id\": %d, \"prompt\": \"My dog\"}%n".formatted(i));
    }
    write("in.jsonl", lines.toString());
    write(
        "positive.jsonl",
        "{\"id\": 1, \"prompt\": \"good dog\"}\n{\"id\": 2, \"prompt\": \"kind cat\"}\n");
    write(
        "negative.jsonl",
        "{\"id\": 1, \"prompt\": \"bad dog\"}\n{\"id\": 2, \"prompt\": \"red cat\"}\n");
    write("scores.csv", "concept,score\nharm,1\nkind,0\n");
    write(
        "stimuli.jsonl",
        "{\"concept\": \"dog\", \"text\": \"A dog.\"}\n{\"concept\": \"cat\", \"text\": \"A cat.\"}\n");
    float[] values = new float[8 * 32];
    Random random = new Random(1);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    for (String name : List.of("atoms", "vectors")) {
      try (SafetensorsWriter out =
          SafetensorsWriter.create(
              inputs.resolve(name + ".safetensors"),
              Map.of(),
              List.of(new TensorSpec(name, DType.F32, 8, 32)))) {
        out.write(name, values);
      }
    }
    Path templates = Path.of("src/main/models/demo/tasks/arithmetic.json").toAbsolutePath();
    Files.copy(templates, inputs.resolve("templates.json"));
    made("heads pairs arithmetic --templates IN/templates.json --limit 4 --out IN/pairs.jsonl");
    write("lessons.jsonl", "{\"prompt_tokens\": [5], \"completion_tokens\": [6]}\n");
    made("heads patch --pairs IN/pairs.jsonl --out IN/effects.json");
    made(
        "heads fit --positive IN/positive.jsonl --negative IN/negative.jsonl --heads 0.1"
            + " --out IN/control.safetensors");
  }

  private static void write(String name, String text) throws IOException {
    Files.writeString(inputs.resolve(name), text);
  }

  private static void made(String command) {
    CommandLineRun run = halter((Object[]) words(command, Path.of("none")));
    assertEquals(0, run.code(), run.err());
  }

  private static String[] words(String command, Path disk) {
    return Stream.of(command.split(" "))
        .map(word -> word.replace("IN/", inputs + "/").replace("DISK/", disk + "/"))
        .toArray(String[]::new);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "map --out DISK/out",
        "map --export DISK/out.csv",
        "map --export DISK/out.parquet",
        "map --html DISK/out.html",
        "batch --in IN/in.jsonl --max-tokens 2 --out DISK/out",
        "capture --in IN/in.jsonl --sites blocks.0.hook_resid_post --out DISK/out",
        "edit tars --concept dog --prompt My --edits 2 --draws 0 --out DISK/out",
        "tune --data IN/lessons.jsonl --heads 0.1 --max-steps 1 --out DISK/out",
        "heads pairs arithmetic --templates IN/templates.json --limit 4 --out DISK/out",
        "heads patch --pairs IN/pairs.jsonl --out DISK/out",
        "heads grid --pairs IN/pairs.jsonl --out DISK/out",
        "heads picture IN/effects.json --out DISK/out.png",
        "heads attention --pairs IN/pairs.jsonl --heads 0.1 --html DISK/out.html",
        "heads fit --positive IN/positive.jsonl --negative IN/negative.jsonl --heads 0.1"
            + " --out DISK/out",
        "heads combine --controls IN/control.safetensors,IN/control.safetensors"
            + " --effects IN/effects.json,IN/effects.json --out DISK/out.json",
        "vectors fit --positive IN/positive.jsonl --negative IN/negative.jsonl --out DISK/out.gguf",
        "concepts partition --scores IN/scores.csv --out DISK/out",
        "concepts build --stimuli IN/stimuli.jsonl --layers 0..1 --out DISK/out",
        "concepts decompose --dictionary IN/atoms.safetensors --vectors IN/vectors.safetensors"
            + " --out DISK/out",
      })
  void whatDoesNotFitIsAFailureThatLeavesNothing(String command) throws Exception {
    CommandLineRun run = run(0, false, command);
    assertEquals(1, run.code(), run.err());
    String error = run.err().lines().toList().getLast();
    assertTrue(error.startsWith("halter: "), run.err());
    assertTrue(error.contains("disk/out"), error);
    assertTrue(error.contains("no space left on device"), error);
    assertEquals(1, run.err().lines().filter(line -> line.startsWith("halter: ")).count(), error);
    try (Stream<Path> left = Files.walk(folder.resolve("kept"))) {
      List<Path> files = left.filter(Files::isRegularFile).toList();
      for (Path file : files) { // a file of lines is there, and has none
        assertEquals(0, Files.size(file), files.toString());
      }
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--help",
        "info --json",
        "tokens --prompt dog --json",
        "generate --prompt dog --max-tokens 2 --json",
        "heads knockout --heads 0.1 --pairs IN/pairs.jsonl --draws 1 --json",
        "concepts info IN/atoms.safetensors --json"
      })
  void whatIsPrintedButDoesNotFitIsAFailure(String command) throws Exception {
    CommandLineRun run = run(0, true, command);
    assertEquals(1, run.code(), run.err());
    String error = run.err().strip();
    assertEquals(1, error.lines().count(), error);
    assertTrue(error.contains("standard output cannot be written"), error);
    assertTrue(error.contains("no space left on device"), error);
  }

  /** Some lines fit: these are whole, and once there is room the rest is done. */
  @Test
  void linesThatFitAreWhole() throws Exception {
    String command = "batch --in IN/in.jsonl --max-tokens 4 --max-batch 2 --out DISK/out --resume";
    CommandLineRun run = run(2, false, command);
    String error = run.error(1);
    assertTrue(error.contains("no space left on device"), error);
    Path out = folder.resolve("kept/out");
    String text = Files.readString(out);
    assertTrue(text.endsWith("\n"), text);
    int whole = 0;
    for (String line : text.lines().toList()) {
      assertTrue(parse(line).has("text"), line);
      whole++;
    }
    assertTrue(whole > 0 && whole < LINES, whole + " lines");
    assertEquals(0, halter((Object[]) words(command, folder.resolve("kept"))).code());
    assertEquals(LINES, CommandLineRun.results(out).size());
  }

  /** A command in a JVM of its own, with so many pages of its disk free. */
  private CommandLineRun run(int pages, boolean stdout, String command) throws Exception {
    Path disk = Files.createDirectory(folder.resolve("disk"));
    Path kept = Files.createDirectory(folder.resolve("kept"));
    Path err = folder.resolve("err");
    List<String> words = new ArrayList<>(List.of("unshare", "-rm", "sh", "-c", SHELL, "sh"));
    words.addAll(process((Object[]) words(command, disk)).command());
    ProcessBuilder builder = new ProcessBuilder(words);
    builder.environment().put("DISK", disk.toString());
    builder.environment().put("KEPT", kept.toString());
    builder.environment().put("PAGES", Integer.toString(pages));
    builder.environment().put("STDOUT", stdout ? "yes" : "");
    Process process =
        builder
            .redirectOutput(folder.resolve("printed").toFile())
            .redirectError(err.toFile())
            .start();
    return new CommandLineRun(process.waitFor(), "", Files.readString(err));
  }
}
