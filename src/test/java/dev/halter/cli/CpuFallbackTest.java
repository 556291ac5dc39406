package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.process;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What users hear of a CUDA device that cannot be used. */
class CpuFallbackTest {
  private static final Path STAND_IN =
      Path.of(System.getProperty("halter.native"), "test/cuda-stand-in").toAbsolutePath();

  @TempDir Path folder;

  /** Runs Halter in a JVM of its own that looks for a driver in this folder first. */
  private CommandLineRun halter(String libraries, Object... arguments)
      throws IOException, InterruptedException {
    Path out = folder.resolve("out");
    Path err = folder.resolve("err");
    ProcessBuilder builder =
        process(arguments).redirectOutput(out.toFile()).redirectError(err.toFile());
    builder.environment().put("LD_LIBRARY_PATH", libraries);
    int code = builder.start().waitFor();
    return new CommandLineRun(code, Files.readString(out), Files.readString(err));
  }

  @Test
  void withoutADriverOnlyInfoTells() throws IOException, InterruptedException {
    CommandLineRun json = halter("", "info", "--json");
    String cuda = json.json().get("cuda").asText();
    assumeTrue(cuda.contains("no NVIDIA driver"), "needs a machine without a driver");
    assertEquals("not used: no NVIDIA driver: libcuda.so.1 not found", cuda);
    assertEquals("", json.err());

    CommandLineRun text = halter("", "info");
    assertTrue(text.out().contains("\ncuda     " + cuda + "\n"), text.out());
    assertEquals("", text.err());
  }

  /** Kernels that the stand-in cannot read, or none: as the build happens to be. */
  @Test
  void withADriverTheReasonIsALineOnStandardError() throws IOException, InterruptedException {
    CommandLineRun json = halter(STAND_IN.toString(), "info", "--json");
    String cuda = json.json().get("cuda").asText();
    assertTrue(cuda.startsWith("not used: "), cuda);
    String reason = cuda.substring("not used: ".length());
    String line = "halter: using the CPU: CUDA cannot be used: " + reason + "\n";
    assertEquals(line, json.err());

    CommandLineRun text = halter(STAND_IN.toString(), "info");
    assertTrue(text.out().contains("\ncuda     " + cuda + "\n"), text.out());
    assertEquals(line, text.err());

    CommandLineRun asked = halter(STAND_IN.toString(), "info", "--device", "cpu");
    assertEquals("", asked.err(), "who asks for the CPU misses nothing");
    assertEquals(
        "halter: device 'cuda' cannot be used: " + reason,
        halter(STAND_IN.toString(), "info", "--device", "cuda").error(1));
  }

  @Test
  void aCommandThatOpensADeviceTwiceSaysItOnce() throws IOException, InterruptedException {
    CommandLineRun run =
        halter(
            STAND_IN.toString(),
            "edit",
            "tars",
            "--concept",
            "dog",
            "--ask",
            "What is your favourite animal?",
            "--draws",
            0,
            "--out",
            folder.resolve("edited"));
    assertEquals(0, run.code(), run.err());
    assertEquals(1, run.err().lines().filter(line -> line.contains("using the CPU")).count());
  }
}
