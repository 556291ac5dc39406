package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.process;
import static dev.halter.cli.CommandLineRun.results;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Runs in a JVM of their own, whose model file is cut while they read it. */
@Timeout(120)
class ShrinkingModelRunTest {
  private static final int LINES = 120;

  @TempDir Path folder;

  private Path model;
  private Path weights;
  private Path out;

  @BeforeEach
  void copyTheModel() throws IOException {
    model = Files.createDirectory(folder.resolve("model"));
    try (Stream<Path> files = Files.list(Path.of(System.getProperty("halter.models"), "demo"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, model.resolve(file.getFileName()));
      }
    }
    weights = model.resolve("model.safetensors");
    out = folder.resolve("out");
  }

  /** Prompts are long and lines are many, so that nearly all of the time goes into steps. */
  @ParameterizedTest
  @CsvSource({"0,1,cpu", "4096,2,cpu", "2000000,1,oneDNN"})
  void aBatchKeepsItsFinishedLines(long left, int threads, String products) throws Exception {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < LINES; i++) {
      lines.add("{\"id\": %d, \"prompt\": \"%s\"}".formatted(i, "My dog and the cat ".repeat(40)));
    }
    Path in = Files.write(folder.resolve("in.jsonl"), lines);
    Object[] batch = {
      "batch",
      "--model",
      model,
      "--device",
      "cpu",
      "--threads",
      threads,
      "--max-batch",
      4,
      "--max-tokens",
      8,
      "--in",
      in,
      "--out",
      out,
      "--resume"
    };
    long length = Files.size(weights);
    byte[] whole = Files.readAllBytes(weights);
    ProcessBuilder builder = process(batch);
    if (products.equals("oneDNN")) {
      builder.command().add("--no-batch-invariant");
    }
    String error = cut(builder, left);
    assertEquals(
        ("halter: %s: got shorter while it was in use, from %,d to %,d bytes: leave the files of a"
                + " model alone while it runs")
            .formatted(weights, length, left),
        error);
    Map<String, JsonNode> finished = results(out);
    assertTrue(finished.size() >= 8 && finished.size() < LINES, finished.size() + " lines");
    JsonNode first = finished.get("0");
    for (JsonNode result : finished.values()) {
      assertEquals(first.get("text"), result.get("text"));
    }
    // With the file as it was the rest is done, and all is what it would have been.
    Files.write(weights, whole);
    assertEquals(0, halter(batch).code());
    Map<String, JsonNode> all = results(out);
    assertEquals(LINES, all.size());
    assertEquals(first, all.get("0"));
    assertEquals(first.get("text"), all.get(Integer.toString(LINES - 1)).get("text"));
  }

  /** What a batch says that fails since the model's file is cut in its midst. */
  private String cut(ProcessBuilder builder, long left) throws Exception {
    Path log = folder.resolve("log");
    Path home = Files.createDirectory(folder.resolve("home"));
    Process process =
        builder
            .directory(home.toFile())
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .start();
    while (process.isAlive() && (!Files.exists(out) || Files.readAllLines(out).size() < 8)) {
      Thread.sleep(2);
    }
    assertTrue(process.isAlive(), () -> "ended early: " + read(log));
    try (FileChannel channel = FileChannel.open(weights, StandardOpenOption.WRITE)) {
      channel.truncate(left);
    }
    int code = process.waitFor();
    String said = read(log);
    assertEquals(1, code, said);
    try (Stream<Path> files = Files.list(home)) {
      assertEquals(List.of(), files.toList(), "files of a crash");
    }
    assertEquals(1, said.lines().count(), said);
    return said.strip();
  }

  private static String read(Path file) {
    try {
      return Files.readString(file, StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }
}
