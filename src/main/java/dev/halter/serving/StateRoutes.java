package dev.halter.serving;

import static dev.halter.files.Json.object;

import java.util.List;

/** What those ask who watch a server. */
final class StateRoutes {
  private final Backend backend;
  private final String version;

  StateRoutes(Backend backend, String version) {
    this.backend = backend;
    this.version = version;
  }

  List<Route> routes() {
    return List.of(
        Route.open("GET", "/health", this::health),
        Route.open("GET", "/ping", this::health),
        Route.open("GET", "/version", exchange -> exchange.answer(200, object("version", version))),
        Route.open("GET", "/load", this::load),
        Route.open("GET", "/metrics", this::metrics));
  }

  private void health(Exchange exchange) {
    if (backend.isDraining()) {
      throw new ApiError(503, null, "the server is about to end");
    }
    exchange.answer(200, object("status", "ok"));
  }

  private void load(Exchange exchange) {
    exchange.answer(200, object("server_load", backend.metrics().load()));
  }

  private void metrics(Exchange exchange) {
    String page =
        backend.metrics().page(backend.engine().metrics(), backend.plans().entries().size());
    exchange.answer(200, Exposition.TYPE, page);
  }
}
