package dev.halter.text;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.Function;

/** Chat completions on this machine, answered by a function of what is asked. */
public final class ChatServer implements AutoCloseable {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private final HttpServer server;
  private final ExecutorService workers = Executors.newVirtualThreadPerTaskExecutor();
  private final List<Asked> asked = new CopyOnWriteArrayList<>();

  /** A request. */
  public record Asked(String path, String authorization, JsonNode body) {
    /** The last concept that the first message names. */
    public String concept() {
      String[] lines = body.get("messages").get(0).get("content").asText().split("\n");
      return lines[lines.length - 2].replace("Concept: ", "");
    }

    public int messages() {
      return body.get("messages").size();
    }
  }

  /** An answer; a status of 0 breaks the connection off. */
  public record Reply(int status, String body, Map<String, String> headers) {
    public static Reply of(String content) {
      Object message = Map.of("message", Map.of("role", "assistant", "content", content));
      return of(200, Map.of("choices", List.of(message)));
    }

    public static Reply of(int status, Object body) {
      try {
        return new Reply(status, MAPPER.writeValueAsString(body), Map.of());
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }

  public ChatServer(Function<Asked, Reply> answers) throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", exchange -> serve(exchange, answers));
    server.setExecutor(workers);
    server.start();
  }

  private void serve(HttpExchange exchange, Function<Asked, Reply> answers) throws IOException {
    try (exchange) {
      Asked request =
          new Asked(
              exchange.getRequestURI().toString(),
              exchange.getRequestHeaders().getFirst("Authorization"),
              MAPPER.readTree(exchange.getRequestBody().readAllBytes()));
      asked.add(request);
      Reply reply = answers.apply(request);
      if (reply.status > 0) {
        byte[] body = reply.body.getBytes(StandardCharsets.UTF_8);
        reply.headers.forEach(exchange.getResponseHeaders()::set);
        exchange.sendResponseHeaders(reply.status, body.length == 0 ? -1 : body.length);
        exchange.getResponseBody().write(body);
      }
    }
  }

  public String url() {
    return "http://127.0.0.1:" + server.getAddress().getPort() + "/v1";
  }

  /** All requests so far. */
  public List<Asked> asked() {
    return asked;
  }

  /** The concepts asked for, in alphabetical order. */
  public List<String> concepts() {
    return asked.stream().map(Asked::concept).sorted().toList();
  }

  @Override
  public void close() {
    server.stop(0);
    workers.close();
  }
}
