package dev.halter.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.generation.LanguageModel;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** The demo model behind a server that runs, and a client that asks it. */
final class TestServer implements AutoCloseable {
  static final Path DEMO = Demo.FOLDER;
  static final Path PLANS = Demo.PLANS;

  /** A prompt in plain text that the demo model answers as in a chat. */
  static final String QUESTION = "<|bos|><|user|> " + Demo.QUESTION + "<|end|><|assistant|>";

  static final String CAT = " " + Demo.CAT;
  static final String DOG = " " + Demo.DOG;

  final LanguageModel model;
  final Server server;
  final List<String> log = new CopyOnWriteArrayList<>();
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  /** What a server is to be like; the demo's plans, no keys and room for all where not said. */
  static final class Setup {
    private SteeringPlan first = SteeringPlan.NONE;
    private Path plans = PLANS;
    private List<Path> maps = List.of();
    private Path keys;
    private Path adminKeys;
    private int maxQueue = 1024;
    private int maxBatch;

    Setup first(SteeringPlan plan) {
      first = plan;
      return this;
    }

    Setup plans(Path folder) {
      plans = folder;
      return this;
    }

    Setup maps(Path... files) {
      maps = List.of(files);
      return this;
    }

    Setup keys(Path file) {
      keys = file;
      return this;
    }

    Setup adminKeys(Path file) {
      adminKeys = file;
      return this;
    }

    Setup queue(int most) {
      maxQueue = most;
      return this;
    }

    Setup batch(int most) {
      maxBatch = most;
      return this;
    }

    TestServer start() throws IOException {
      return new TestServer(this);
    }
  }

  static Setup setup() {
    return new Setup();
  }

  static TestServer start() throws IOException {
    return setup().start();
  }

  private TestServer(Setup setup) throws IOException {
    model = LanguageModel.at(DEMO).device("cpu").threads(2).maxBatch(setup.maxBatch).open();
    try {
      server =
          Server.start(
              model,
              setup.first,
              new Server.Settings(
                  "127.0.0.1",
                  0,
                  setup.plans,
                  setup.maps,
                  setup.keys,
                  setup.adminKeys,
                  setup.maxQueue,
                  "test"),
              log::add);
    } catch (IOException | RuntimeException e) {
      model.close();
      throw e;
    }
  }

  /** An answer. */
  record Reply(int status, String body, HttpResponse<?> response) {
    JsonNode json() {
      return CommandLineRun.parse(body);
    }

    /** The document of an answer that is one. */
    JsonNode ok() {
      assertEquals(200, status, body);
      return json();
    }

    /** The error of an answer that is one, in OpenAI's shape, of one line and without a trace. */
    JsonNode error(int expected) {
      assertEquals(expected, status, body);
      JsonNode error = json().get("error");
      assertEquals(List.of("message", "type", "param", "code"), CommandLineRun.keys(error), body);
      assertEquals(expected, error.get("code").asInt());
      String message = error.get("message").asText();
      assertTrue(message.lines().count() == 1 && !message.contains("Exception"), message);
      return error;
    }

    /** The documents of a stream's events, without its end, which must be there. */
    List<JsonNode> events() {
      assertEquals(200, status, body);
      List<JsonNode> events = new ArrayList<>();
      List<String> data =
          body.lines()
              .filter(line -> line.startsWith("data: "))
              .map(line -> line.substring(6))
              .toList();
      assertEquals("[DONE]", data.getLast(), body);
      data.subList(0, data.size() - 1).forEach(each -> events.add(CommandLineRun.parse(each)));
      return events;
    }
  }

  InetSocketAddress address() {
    return server.address();
  }

  String url(String path) {
    return "http://127.0.0.1:" + address().getPort() + path;
  }

  /** Sends JSON in which ' stands for ". */
  Reply post(String path, String json, String... headers) {
    return send("POST", path, json.replace('\'', '"'), headers);
  }

  Reply get(String path, String... headers) {
    return send("GET", path, null, headers);
  }

  Reply send(String method, String path, String body, String... headers) {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(URI.create(url(path)))
            .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body));
    for (int i = 0; i < headers.length; i += 2) {
      request.header(headers[i], headers[i + 1]);
    }
    try {
      HttpResponse<String> response =
          client.send(request.build(), BodyHandlers.ofString(StandardCharsets.UTF_8));
      return new Reply(response.statusCode(), response.body(), response);
    } catch (IOException e) {
      throw new AssertionError(e);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** A completion's text. */
  String complete(String fields, String... headers) {
    String json =
        "{'prompt': '" + QUESTION + "', 'temperature': 0, 'max_tokens': 20" + fields + "}";
    return post("/v1/completions", json, headers).ok().get("choices").get(0).get("text").asText();
  }

  @Override
  public void close() {
    server.close();
    model.close();
    client.close();
  }
}
