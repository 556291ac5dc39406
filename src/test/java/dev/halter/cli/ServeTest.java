package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code halter serve} as a process; what it answers is tested in {@code dev.halter.serving}. */
@Timeout(180)
class ServeTest {
  private static final String PLANS = "src/main/models/demo/plans";

  @TempDir Path folder;

  /** Starts a server and returns where it serves, by what it says. */
  private static String url(BufferedReader said) throws IOException {
    for (String line = said.readLine(); line != null; line = said.readLine()) {
      if (line.startsWith("serving on ")) {
        return line.substring("serving on ".length());
      }
    }
    throw new AssertionError("it does not say where it serves");
  }

  private static HttpRequest ask(String url, int tokens) {
    String body =
        "{\"prompt\": \"a\", \"temperature\": 0, \"ignore_eos\": true, \"max_tokens\": %d, \"plan\": \"dogs\"}"
            .formatted(tokens);
    return HttpRequest.newBuilder(URI.create(url + "/v1/completions"))
        .POST(BodyPublishers.ofString(body))
        .build();
  }

  @ParameterizedTest
  @ValueSource(strings = {"TERM", "INT"})
  void aSignalLetsWhatRunsEndAndTheCodeIsNull(String signal) throws Exception {
    Process process =
        CommandLineRun.process("serve", "--port", 0, "--device", "cpu", "--plans", PLANS).start();
    try (HttpClient client = HttpClient.newHttpClient();
        BufferedReader said = process.errorReader()) {
      String url = url(said);
      assertTrue(url.matches("http://127\\.0\\.0\\.1:\\d+"), url);
      CompletableFuture<HttpResponse<String>> answer =
          client.sendAsync(ask(url, 900), BodyHandlers.ofString());
      while (client.send(load(url), BodyHandlers.ofString()).body().contains("0")) {
        Thread.onSpinWait();
      }
      new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).start().waitFor();
      JsonNode choice = CommandLineRun.parse(answer.get().body()).get("choices").get(0);
      assertEquals("length", choice.get("finish_reason").asText());
      assertTrue(process.waitFor(1, TimeUnit.MINUTES));
      assertEquals(0, process.exitValue());
      assertEquals("halter: no more requests are taken; those that run may end", said.readLine());
      assertNull(said.readLine());
      assertEquals(0, process.getInputStream().readAllBytes().length);
    } finally {
      process.destroyForcibly();
    }
  }

  private static HttpRequest load(String url) {
    return HttpRequest.newBuilder(URI.create(url + "/load")).build();
  }

  @Test
  void aPortThatIsTakenIsOneLine() throws Exception {
    Process process = CommandLineRun.process("serve", "--port", 0, "--device", "cpu").start();
    try (BufferedReader said = process.errorReader()) {
      String url = url(said);
      String port = url.substring(url.lastIndexOf(':') + 1);
      String error = halter("serve", "--port", port, "--device", "cpu").error(1);
      assertTrue(error.contains("cannot listen at 127.0.0.1, port " + port), error);
    } finally {
      process.destroyForcibly();
    }
  }

  @ParameterizedTest
  @CsvSource({
    "--port=-1, --port is -1",
    "--port=65536, --port is 65536",
    "--max-queue=0, --max-queue is 0",
    "--drain-timeout=-1, --drain-timeout is -1.0",
    "--max-batch=-1, cannot be negative",
  })
  void wrongUseIsOneLine(String option, String said) {
    assertTrue(halter("serve", option).error(2).contains(said));
  }

  @Test
  void filesThatCannotBeUsedAreNamed() throws IOException {
    Path empty = Files.writeString(folder.resolve("keys"), "\n");
    assertTrue(halter("serve", "--port=0", "--api-key-file", empty).error(1).contains("no key"));
    String plan = halter("serve", "--port=0", "--plan", folder.resolve("none.json")).error(1);
    assertTrue(plan.contains("no such file"), plan);
    String plans = halter("serve", "--port=0", "--plans", folder.resolve("none")).error(1);
    assertTrue(plans.contains("none: cannot be read"), plans);
    String host = halter("serve", "--port=0", "--host", "no.such.host.invalid").error(1);
    assertFalse(host.contains("null"), host);
  }
}
