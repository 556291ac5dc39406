package dev.halter.serving;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Any body is answered, or refused as the client's fault: never a 500, never a trace. {@code mvn
 * test} sends the inputs kept in the folder of this class's resources. {@code JAZZER_FUZZ=1 mvn
 * test -Djazzer.hooks=true -Dtest=RequestFuzzTest} looks for more.
 */
class RequestFuzzTest {
  private static final List<String> PATHS =
      List.of(
          "/v1/completions",
          "/v1/chat/completions",
          "/v1/neurons/search",
          "/v1/heads/patch",
          "/tokenize",
          "/detokenize",
          "/v1/plans/fuzz",
          "/v1/steering",
          "/v1/steering/set",
          "/v1/steering/clear",
          "/v1/steering/vectors",
          "/v1/steering/vectors/register",
          "/v1/steering/vectors/unregister",
          "/v1/steering/modules/register",
          "/v1/steering/modules/unregister",
          "/v1/steer/completion",
          "/v1/steer/completion-chat");

  /** Of all inputs: to open the model takes longer than thousands of them. */
  private static final TestServer SERVER = server();

  private static final HttpClient CLIENT =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  private static TestServer server() {
    try {
      Path key = Files.writeString(Files.createTempFile("admin", ".key"), "key");
      key.toFile().deleteOnExit();
      return TestServer.setup().adminKeys(key).start();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @FuzzTest(maxDuration = "60s")
  void anyBody(byte[] body) throws Exception {
    for (String path : PATHS) {
      HttpRequest request =
          HttpRequest.newBuilder(URI.create(SERVER.url(path)))
              .method(
                  path.startsWith("/v1/plans") ? "PUT" : "POST", BodyPublishers.ofByteArray(body))
              .header("Authorization", "Bearer key")
              .build();
      HttpResponse<String> answer = CLIENT.send(request, BodyHandlers.ofString());
      String what = path + ": " + answer.statusCode() + ": " + answer.body();
      assertTrue(answer.statusCode() < 500, what);
      assertFalse(
          answer.body().contains("Exception") || answer.body().contains("dev.halter."), what);
    }
  }
}
