package dev.halter.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** OpenAI's own client for Node against a server; {@code tools/openai-node} holds what it does. */
@Timeout(300)
class NodeClientTest {
  /** The script's, where the package cannot be had. */
  private static final int UNAVAILABLE = 69;

  @TempDir Path folder;

  private static boolean isInstalled(String program) {
    return Stream.of(System.getenv("PATH").split(File.pathSeparator))
        .anyMatch(place -> Files.isExecutable(Path.of(place, program)));
  }

  @Test
  void openAiForNodeWorksUnchanged() throws Exception {
    for (String program : List.of("node", "npm")) {
      assumeTrue(isInstalled(program), program + " is not installed");
    }
    Path output = folder.resolve("output");
    try (TestServer server =
        TestServer.setup().keys(Files.writeString(folder.resolve("keys"), "sesame")).start()) {
      ProcessBuilder script =
          new ProcessBuilder("tools/openai-node/run", server.url(""))
              .redirectErrorStream(true)
              .redirectOutput(output.toFile());
      script.environment().put("OPENAI_API_KEY", "sesame");
      script.environment().remove("OPENAI_BASE_URL");
      Process process = script.start();
      boolean hasEnded = process.waitFor(240, TimeUnit.SECONDS);
      process.destroy();
      String said = Files.readString(output, StandardCharsets.UTF_8);
      int code = hasEnded ? process.exitValue() : -1;
      assumeTrue(code != UNAVAILABLE, "the openai package cannot be had: " + said);
      assertEquals(0, code, said);
      assertEquals(11, said.lines().filter(line -> line.startsWith("ok  ")).count(), said);
    }
  }
}
