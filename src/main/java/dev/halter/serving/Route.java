package dev.halter.serving;

import java.io.IOException;

/**
 * What a method of a path does. A path that ends in {@code /} stands for whatever goes on from it,
 * any other for itself alone.
 *
 * @param hasPlainErrors whether its errors are {@code {"error": MESSAGE}}, not in OpenAI's shape
 */
record Route(String method, String path, Access access, boolean hasPlainErrors, Handler handler) {

  /** Who may use it. */
  enum Access {
    /** Everybody: nothing there tells of prompts, and those who watch servers have no keys. */
    OPEN,
    /** Who has a key, if the server asks for one. */
    USER,
    /** Who has an admin's key; nobody where the server has none. */
    ADMIN
  }

  /** Answers, or throws an {@link ApiError}. */
  @FunctionalInterface
  interface Handler {
    void handle(Exchange exchange) throws IOException;
  }

  static Route open(String method, String path, Handler handler) {
    return new Route(method, path, Access.OPEN, false, handler);
  }

  static Route user(String method, String path, Handler handler) {
    return new Route(method, path, Access.USER, false, handler);
  }

  static Route admin(String method, String path, Handler handler) {
    return new Route(method, path, Access.ADMIN, false, handler);
  }

  /** The same with plain errors. */
  Route tellingErrorsPlainly() {
    return new Route(method, path, access, true, handler);
  }

  boolean isAt(String requested) {
    return path.endsWith("/") && path.length() > 1
        ? requested.startsWith(path) && requested.length() > path.length()
        : requested.equals(path);
  }
}
