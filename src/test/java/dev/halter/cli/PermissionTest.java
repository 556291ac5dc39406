package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.process;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Files and folders that a user must not read or write. Root may all, so that it runs the command
 * without the capabilities that this takes.
 */
@Timeout(120)
class PermissionTest {
  private static final List<String> PLAIN =
      List.of("setpriv", "--bounding-set=-dac_override,-dac_read_search");

  @TempDir Path folder;

  private List<String> prefix = List.of();

  @BeforeEach
  void makeFiles() throws Exception {
    Files.createDirectories(folder.resolve("model"));
    try (Stream<Path> files = Files.list(Path.of("src/main/models/demo"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve("model").resolve(file.getFileName()));
      }
    }
    Files.writeString(folder.resolve("in.jsonl"), "{\"id\": 1, \"prompt\": \"My dog\"}\n");
    Files.writeString(folder.resolve("plan.json"), "{\"interventions\": []}");
    Files.writeString(folder.resolve("scores.csv"), "concept,score\nharm,1\n");
    Files.createDirectory(folder.resolve("locked"));

    Path secret = Files.writeString(folder.resolve("secret"), "");
    deny(secret);
    if (Files.isReadable(secret)) {
      prefix = PLAIN;
      List<String> read = new ArrayList<>(prefix);
      read.addAll(List.of("cat", secret.toString()));
      assumeTrue(starts(read) == 1, "needs a user other than root, or setpriv");
    }
  }

  private static int starts(List<String> command) throws InterruptedException {
    try {
      return new ProcessBuilder(command).redirectErrorStream(true).start().waitFor();
    } catch (IOException e) {
      return -1; // there is no such program
    }
  }

  private static void deny(Path file) throws IOException {
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("---------"));
  }

  @AfterEach
  void allowTheirRemoval() throws IOException {
    Files.setPosixFilePermissions(
        folder.resolve("locked"), PosixFilePermissions.fromString("rwxr-xr-x"));
  }

  private String error(String command) throws Exception {
    List<String> words = new ArrayList<>(prefix);
    words.addAll(
        process(
                (Object[])
                    Stream.of(command.split(" "))
                        .map(word -> word.replace("IN/", folder + "/"))
                        .toArray(String[]::new))
            .command());
    Path err = folder.resolve("err");
    Process process = new ProcessBuilder(words).redirectError(err.toFile()).start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new CommandLineRun(process.waitFor(), out, Files.readString(err)).error(1);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "generate --model IN/model --prompt a ¦ model/config.json",
        "generate --model IN/model --prompt a ¦ model/model.safetensors",
        "generate --model IN/model --prompt a ¦ model/tokenizer.json",
        "generate --prompt a --plan IN/plan.json ¦ plan.json",
        "batch --in IN/in.jsonl --out IN/out ¦ in.jsonl",
        "concepts partition --scores IN/scores.csv --out IN/out ¦ scores.csv",
        "tokens --messages IN/secret ¦ secret"
      })
  void whatMayNotBeReadIsNamed(String line) throws Exception {
    String[] parts = line.split(" ¦ ");
    deny(folder.resolve(parts[1]));
    String error = error(parts[0]);
    assertTrue(error.contains(folder.resolve(parts[1]).toString()), error);
    assertTrue(error.contains("permission denied"), error);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "map --out IN/locked/x",
        "batch --in IN/in.jsonl --out IN/locked/x",
        "capture --in IN/in.jsonl --sites logits --out IN/locked/x",
        "edit tars --concept dog --prompt My --out IN/locked/x",
        "concepts partition --scores IN/scores.csv --out IN/locked/x"
      })
  void aFolderThatMayNotBeWrittenIsNamed(String command) throws Exception {
    Files.setPosixFilePermissions(
        folder.resolve("locked"), PosixFilePermissions.fromString("r-xr-xr-x"));
    String error = error(command);
    assertTrue(error.contains(folder.resolve("locked").toString()), error);
    assertTrue(error.contains("permission denied"), error);
  }

  @Test
  void aFileThatMayNotBeWrittenStaysAsItIs() throws Exception {
    Path out = Files.writeString(folder.resolve("out"), "mine");
    Files.setPosixFilePermissions(out, PosixFilePermissions.fromString("r--r--r--"));
    String error = error("batch --in IN/in.jsonl --out IN/out");
    assertTrue(error.contains(out + ": "), error);
    assertTrue(error.contains("permission denied"), error);
    assertEquals("mine", Files.readString(out));
  }
}
