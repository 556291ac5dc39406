package dev.halter.serving;

import com.sun.net.httpserver.HttpExchange;
import dev.halter.files.Json;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;

/** A request and its answer. */
final class Exchange {
  /** Longest body: ids of a prompt of 128k tokens are a megabyte, vectors in base64 a few. */
  static final int MOST_BYTES = 32 << 20;

  private final HttpExchange http;
  private final Writers writers;
  private String owner = ""; // of what the request makes
  private boolean isAnswered;
  private boolean hasPlainErrors;

  Exchange(HttpExchange http, Writers writers) {
    this.http = http;
    this.writers = writers;
  }

  String method() {
    return http.getRequestMethod();
  }

  String path() {
    return http.getRequestURI().getPath();
  }

  /** The first header of this name, or null. */
  String header(String name) {
    return http.getRequestHeaders().getFirst(name);
  }

  /** The key that is shown, as {@code Authorization} does; Neuronpedia's clients have their own. */
  String shownKey() {
    String shown = header("Authorization");
    String secret = header("X-SECRET-KEY");
    return shown == null && secret != null ? "Bearer " + secret : shown;
  }

  /**
   * Whose key the request shows, in a form that tells nothing of it; empty where none is asked for.
   */
  String owner() {
    return owner;
  }

  void setOwner(String digest) {
    owner = digest;
  }

  /** What follows {@code prefix} in the path, decoded. */
  String after(String prefix) {
    return path().substring(prefix.length());
  }

  /** The body, one JSON object. */
  Fields fields() {
    return Fields.parse(body());
  }

  /** The body. */
  byte[] body() {
    long said = length();
    if (said > MOST_BYTES) {
      throw tooLong(said);
    }
    try {
      byte[] body = http.getRequestBody().readNBytes(MOST_BYTES + 1);
      if (body.length > MOST_BYTES) {
        throw tooLong(body.length);
      }
      return body;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private long length() {
    String said = header("Content-Length");
    try {
      return said == null ? 0 : Long.parseLong(said.strip());
    } catch (NumberFormatException e) {
      throw ApiError.badRequest(null, "Content-Length is no number");
    }
  }

  private static ApiError tooLong(long bytes) {
    return new ApiError(
        413,
        null,
        "the body has %,d bytes or more, at most %,d are read".formatted(bytes, MOST_BYTES));
  }

  /** Adds a header to the answer. */
  void setHeader(String name, String value) {
    http.getResponseHeaders().set(name, value);
  }

  /** From now on an error is told as {@code {"error": MESSAGE}}, not in OpenAI's shape. */
  void tellErrorsPlainly() {
    hasPlainErrors = true;
  }

  /** Answers with an error. */
  void answer(ApiError error) {
    answer(error.status(), hasPlainErrors ? error.plain() : error.json());
  }

  /** Answers with a JSON document. */
  void answer(int status, Object document) {
    answer(status, "application/json", Json.text(document));
  }

  /** Answers with a text of a type. */
  void answer(int status, String type, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    try {
      begin(status, type, method().equals("HEAD") ? -1 : bytes.length);
      if (!method().equals("HEAD")) {
        writers.run(() -> http.getResponseBody().write(bytes));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e); // nobody is there any more
    }
  }

  /** Answers with the bytes of a file. */
  void answer(int status, String type, FileChannel file) throws IOException {
    long size = file.size();
    begin(status, type, method().equals("HEAD") ? -1 : size);
    if (method().equals("HEAD")) {
      return;
    }
    ByteBuffer piece = ByteBuffer.allocate(1 << 20); // each has a slow reader's patience
    while (file.read(piece) >= 0) {
      writers.run(() -> http.getResponseBody().write(piece.array(), 0, piece.position()));
      piece.clear();
    }
  }

  /** Begins an answer whose length is not known yet. */
  Writing begin(int status, String type) throws IOException {
    begin(status, type, 0);
    return new Writing(http.getResponseBody(), writers);
  }

  private void begin(int status, String type, long length) throws IOException {
    isAnswered = true;
    drain();
    setHeader("Content-Type", type);
    setHeader("Cache-Control", "no-store");
    setHeader("X-Content-Type-Options", "nosniff");
    http.sendResponseHeaders(status, length);
  }

  /** Reads on in a body that is refused: who still sends would not hear of the refusal. */
  private void drain() throws IOException {
    InputStream body = http.getRequestBody();
    if (body.read() < 0) {
      return; // nearly always: it has been read, or there is none
    }
    byte[] piece = new byte[1 << 16];
    int left = 2 * MOST_BYTES;
    for (int read = 0; read >= 0 && left > 0; left -= read) {
      read = body.read(piece);
    }
  }

  /** Whether the status is out, so that no other can be sent. */
  boolean isAnswered() {
    return isAnswered;
  }

  /** Ends the answer; what was begun and not completed breaks the connection off. */
  void close() {
    http.close();
  }
}
