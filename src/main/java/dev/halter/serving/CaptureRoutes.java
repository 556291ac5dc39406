package dev.halter.serving;

import static dev.halter.files.Json.object;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.util.List;

/** What requests captured and left to be fetched, for those who sent them. */
final class CaptureRoutes {
  static final String PATH = "/v1/captures";

  private final Backend backend;

  CaptureRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(
        Route.user("GET", PATH + "/", this::get), Route.user("DELETE", PATH + "/", this::delete));
  }

  private void get(Exchange exchange) throws IOException {
    try (FileChannel file = FileChannel.open(find(exchange).file())) {
      exchange.answer(200, "application/octet-stream", file);
    }
  }

  private void delete(Exchange exchange) {
    String id = find(exchange).id();
    backend.captures().remove(id);
    exchange.answer(200, object("id", id, "object", "capture", "deleted", true));
  }

  private CaptureStore.Kept find(Exchange exchange) {
    String id = exchange.after(PATH + "/");
    CaptureStore.Kept found = backend.captures().find(id, exchange.owner());
    if (found == null) {
      throw ApiError.notFound(
          "id", "there is no capture \"" + Text.line(id) + "\", or not for this key, or no more");
    }
    return found;
  }
}
