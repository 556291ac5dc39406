package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.WholeFile;
import dev.halter.weights.SafetensorsWriter;
import java.io.File;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A disk that is full: {@code /dev/full} takes nothing. */
class UnwritableOutputTest {
  private static final Path FULL = Path.of("/dev/full");
  private static final String LINE = "{\"id\": \"a\", \"prompt\": \"My dog\"}\n";

  @TempDir Path folder;

  /** Commands of each way to print; what runs a model is one line or one neuron. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "--help",
        "--version",
        "heads patch --help",
        "info",
        "info --json",
        "tokens --prompt dog",
        "tokens --prompt dog --json",
        "generate --prompt dog --max-tokens 2",
        "generate --prompt dog --max-tokens 2 --json",
        "batch --max-tokens 2 --in IN --out OUT",
        "batch --max-tokens 2 --in IN --out OUT --json",
        "capture --in IN --sites blocks.0.hook_resid_post --out OUT",
        "dose --neuron 0.1 --site hook_post --values 1 --prompt dog --token dog"
      })
  void whatIsPrintedButNotWrittenIsAFailure(String arguments) throws Exception {
    Files.writeString(folder.resolve("in.jsonl"), LINE);
    CommandLineRun run = run(arguments);
    String error = run.error(1);
    assertTrue(error.contains("standard output"), error);
    assertTrue(error.contains("no space left on device"), error);
    if (arguments.startsWith("batch")) {
      assertEquals(1, Files.readAllLines(folder.resolve("out")).size());
    }
  }

  @Test
  void resultsThatDoNotFitOnTheDiskAreAFailure() throws Exception {
    Files.writeString(folder.resolve("in.jsonl"), LINE);
    // Lines are appended to a device as to a file.
    String error = run("batch --max-tokens 2 --in IN --out FULL").error(1);
    assertTrue(error.contains("/dev/full: cannot be written: no space left on device"), error);
  }

  /** What is put in its place whole elsewhere is written to a device, and does not replace it. */
  @Test
  void aDeviceIsNotReplaced() throws Exception {
    List<Executable> writers =
        List.of(
            () -> WholeFile.write(FULL, out -> out.write("text")),
            () -> SafetensorsWriter.create(FULL, Map.of(), List.of()).close());
    for (Executable writer : writers) {
      String message = assertThrows(UncheckedIOException.class, writer).getMessage();
      assertTrue(message.contains("no space left on device"), message);
    }
    assertTrue(Files.readAttributes(FULL, BasicFileAttributes.class).isOther());
  }

  /** In a JVM of its own, whose standard output is a full disk. */
  private CommandLineRun run(String arguments) throws Exception {
    List<Object> words = new ArrayList<>();
    for (String word : arguments.split(" ")) {
      words.add(
          switch (word) {
            case "IN" -> folder.resolve("in.jsonl");
            case "OUT" -> folder.resolve("out");
            case "FULL" -> FULL;
            default -> word;
          });
    }
    if (Stream.of("batch", "capture", "map", "dose", "generate").anyMatch(arguments::startsWith)) {
      words.addAll(Arrays.asList("--device", "cpu"));
    }
    File err = folder.resolve("err").toFile();
    Process process =
        CommandLineRun.process(words.toArray())
            .redirectOutput(FULL.toFile())
            .redirectError(err)
            .start();
    int code = process.waitFor();
    return new CommandLineRun(code, "", Files.readString(err.toPath(), StandardCharsets.UTF_8));
  }
}
