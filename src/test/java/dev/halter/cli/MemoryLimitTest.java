package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.parse;
import static dev.halter.cli.CommandLineRun.process;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The plan of memory: what it counts, and that it keeps to the limits of the process. */
@Timeout(120)
class MemoryLimitTest {
  private static final long LIMIT = 12_000_000; // kB of address space, of which Java reserves much

  @TempDir Path folder;

  @Test
  void thePlanKeepsToTheAddressSpaceOfTheProcess() throws Exception {
    JsonNode memory = parse(limited(0, "info", "--device", "cpu", "--json")).get("memory");
    long total = memory.get("total").asLong();
    assertTrue(total <= LIMIT << 10, memory.toString());
    assertTrue(memory.get("free").asLong() < total, memory.toString());

    String error = limited(1, "info", "--device", "cpu", "--max-batch", "4000000");
    assertEquals(1, error.lines().count(), error);
    assertTrue(
        error.startsWith("halter: the model needs ") && error.contains("--max-batch"), error);
  }

  @Test
  void thePlanCountsJavaAndAsManySequencesAsAreAskedFor() {
    Map<Integer, JsonNode> plans =
        Map.of(
            4, halter("info", "--json", "--max-batch", 4).json().get("memory"),
            8, halter("info", "--json", "--max-batch", 8).json().get("memory"));
    assertEquals(2 * plans.get(4).get("kv_cache").asLong(), plans.get(8).get("kv_cache").asLong());
    assertTrue(plans.get(4).get("java").asLong() > 64 << 20, plans.toString());
    assertTrue(halter("info").out().contains(" + Java "));
    halter("info", "--max-batch", -1).error(2);
  }

  private String limited(int code, Object... command) throws Exception {
    List<String> words =
        new ArrayList<>(List.of("sh", "-c", "ulimit -v " + LIMIT + "; exec \"$@\""));
    words.add("sh");
    words.addAll(process(command).command());
    Path out = folder.resolve("out");
    Process process =
        new ProcessBuilder(words).redirectErrorStream(true).redirectOutput(out.toFile()).start();
    assertEquals(code, process.waitFor(), () -> read(out));
    return read(out);
  }

  private static String read(Path file) {
    try {
      return Files.readString(file, StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
