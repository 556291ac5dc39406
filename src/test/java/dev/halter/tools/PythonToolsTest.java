package dev.halter.tools;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Runs the tests of what is written in Python: the stages of a GPU run, which may not be lost to a
 * hang or a crash, and how figures are taken; and those that hold tables to what they are made of.
 * They need its standard library alone; without a python3 they are skipped, as Halter itself needs
 * none.
 */
class PythonToolsTest {
  static Stream<List<String>> suites() {
    return Stream.of(
        List.of("python3", "tools/gpu/test_stages.py"),
        List.of("python3", "bench/python/test_peer.py"),
        List.of("python3", "bench/scale", "--check"),
        List.of("python3", "tools/readme", "--check"),
        List.of("python3", "tools/decode", "--check"));
  }

  private static boolean python() throws InterruptedException {
    try {
      Process process =
          new ProcessBuilder("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 10))")
              .start();
      return process.waitFor() == 0;
    } catch (IOException e) {
      return false;
    }
  }

  @ParameterizedTest
  @MethodSource("suites")
  void passes(List<String> command) throws Exception {
    assumeTrue(python(), "needs python3 of 3.10 or later");
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(5, TimeUnit.MINUTES));
    assertEquals(0, process.exitValue(), output);
  }
}
