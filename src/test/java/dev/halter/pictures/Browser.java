package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** Headless Chromium; tests that need it are skipped where there is none. */
public final class Browser {
  private Browser() {}

  /**
   * A page's document after its scripts have run.
   *
   * @param folder for the browser's own files
   * @param fragment of the address, with its #, or empty
   */
  public static String show(Path page, String fragment, Path folder)
      throws IOException, InterruptedException {
    Optional<Path> browser =
        Stream.of(System.getenv("PATH").split(":"))
            .flatMap(place -> Stream.of("chromium", "google-chrome").map(Path.of(place)::resolve))
            .filter(Files::isExecutable)
            .findFirst();
    assumeTrue(browser.isPresent(), "no browser on the PATH: install the package chromium");
    Path out = folder.resolve("dom.html");
    Process process =
        new ProcessBuilder(
                browser.get().toString(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--user-data-dir=" + folder.resolve("profile"),
                "--virtual-time-budget=10000",
                "--dump-dom",
                page.toUri() + fragment)
            .redirectOutput(out.toFile())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    boolean ended = process.waitFor(60, TimeUnit.SECONDS);
    process.destroyForcibly();
    assertTrue(ended, "the browser does not come to an end");
    assertEquals(0, process.exitValue());
    return Files.readString(out);
  }
}
