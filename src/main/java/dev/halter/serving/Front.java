package dev.halter.serving;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * The HTTP side: finds the route of a request, looks at its key, and turns failures into errors.
 */
final class Front implements AutoCloseable {
  /** Bounds for who sends slowly, or nothing, or too much; the user's own count. */
  private static final Map<String, String> LIMITS =
      Map.of(
          "sun.net.httpserver.nodelay", "true", // or each event waits for the last one's receipt
          "sun.net.httpserver.maxReqTime", "60", // seconds until a request is there, with its body
          "sun.net.httpserver.idleInterval", "60",
          "sun.net.httpserver.maxIdleConnections", "1024",
          "sun.net.httpserver.maxReqHeaders", "100",
          "sun.net.httpserver.maxReqHeaderSize", "65536",
          "jdk.httpserver.maxConnections", "4096");

  /** After which a client that takes nothing of its answer is left. */
  private static final Duration PATIENCE = Duration.ofMinutes(1);

  private final HttpServer server;
  private final ExecutorService workers = Executors.newVirtualThreadPerTaskExecutor();
  private final Writers writers;
  private final List<Route> routes;
  private final Keys keys;
  private final Keys adminKeys;
  private final Consumer<String> log;

  /** Listens from now on. */
  Front(
      InetSocketAddress address,
      List<Route> routes,
      Keys keys,
      Keys adminKeys,
      Consumer<String> log)
      throws IOException {
    LIMITS.forEach((name, value) -> System.getProperties().putIfAbsent(name, value));
    this.routes = routes;
    this.keys = keys;
    this.adminKeys = adminKeys;
    this.log = log;
    server = HttpServer.create(address, 0);
    writers = new Writers(PATIENCE);
    server.createContext("/", this::handle);
    server.setExecutor(workers);
    server.start();
  }

  InetSocketAddress address() {
    return server.getAddress();
  }

  private void handle(HttpExchange http) {
    Exchange exchange = new Exchange(http, writers);
    try {
      try {
        dispatch(exchange);
      } catch (ApiError e) {
        refuse(exchange, e);
      } catch (UncheckedIOException | IOException e) {
        // Nobody is there any more.
      } catch (RuntimeException | Error e) {
        log.accept("%s %s failed: %s".formatted(exchange.method(), exchange.path(), e));
        refuse(exchange, ApiError.ofServer());
      }
    } catch (UncheckedIOException e) {
      // Nobody heard of the error.
    } finally {
      exchange.close();
    }
  }

  private void dispatch(Exchange exchange) throws IOException {
    String path = exchange.path();
    String method = exchange.method().equals("HEAD") ? "GET" : exchange.method();
    Set<String> methods = new LinkedHashSet<>();
    for (Route route : routes) {
      if (path != null && route.isAt(path)) {
        if (route.method().equals(method)) {
          if (route.hasPlainErrors()) {
            exchange.tellErrorsPlainly();
          }
          admit(exchange, route.access());
          route.handler().handle(exchange);
          return;
        }
        methods.add(route.method());
      }
    }
    if (methods.isEmpty()) {
      throw ApiError.notFound(null, "there is nothing at " + path);
    }
    exchange.setHeader("Allow", String.join(", ", methods));
    throw new ApiError(405, null, path + " takes " + String.join(", ", methods));
  }

  private void admit(Exchange exchange, Route.Access access) {
    String shown = exchange.shownKey();
    switch (access) {
      case OPEN -> {}
      case USER -> {
        if (!keys.isNone() && !keys.has(shown) && !adminKeys.has(shown)) {
          throw unauthorized(exchange, shown, "a key");
        }
        exchange.setOwner(keys.isNone() ? "" : Keys.owner(shown));
      }
      case ADMIN -> {
        if (adminKeys.isNone()) {
          throw new ApiError(403, null, "this server was started without --admin-key-file");
        }
        if (!adminKeys.has(shown)) {
          throw unauthorized(exchange, shown, "an admin's key");
        }
      }
    }
  }

  private static ApiError unauthorized(Exchange exchange, String shown, String what) {
    exchange.setHeader("WWW-Authenticate", "Bearer");
    return new ApiError(
        401,
        null,
        shown == null
            ? "this needs " + what + ": send it as Authorization: Bearer KEY"
            : "the key is not " + (what.equals("a key") ? "one of this server's" : what));
  }

  private static void refuse(Exchange exchange, ApiError error) {
    if (!exchange.isAnswered()) {
      if (error.status() == 503) {
        exchange.setHeader("Retry-After", "1");
      }
      exchange.answer(error);
    }
  }

  /** Takes no more connections, and waits a moment for answers that are on their way. */
  @Override
  public void close() {
    server.stop(5); // seconds at most, for what is being written
    writers.close();
    workers.shutdown();
    try {
      if (!workers.awaitTermination(1, TimeUnit.SECONDS)) {
        workers.shutdownNow();
      }
    } catch (InterruptedException e) {
      workers.shutdownNow();
      Thread.currentThread().interrupt();
    }
  }
}
