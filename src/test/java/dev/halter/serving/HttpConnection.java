package dev.halter.serving;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * A connection over which one request goes after the other, and which can be left at any point, as
 * clients of the JDK cannot.
 */
final class HttpConnection implements AutoCloseable {
  private static final int SLOW_BYTES = 2048; // that wait for a slow reader

  private final Socket socket = new Socket();
  private final InputStream in;
  private int left; // bytes of the chunk that is being read
  private boolean isOpen = true;

  /** What an answer begins with; names of headers are in lower case. */
  record Head(int status, Map<String, String> headers) {
    boolean isStream() {
      return headers.getOrDefault("content-type", "").startsWith("text/event-stream");
    }
  }

  /** A whole answer. */
  record Reply(Head head, String text) {
    int status() {
      return head.status;
    }

    String header(String name) {
      return head.headers.get(name);
    }
  }

  /**
   * Connects.
   *
   * @param patience longest wait for a byte
   * @param isSlow whether little is taken from the server before it is read here
   */
  HttpConnection(InetSocketAddress address, Duration patience, boolean isSlow) throws IOException {
    if (isSlow) {
      socket.setReceiveBufferSize(SLOW_BYTES);
    }
    socket.setTcpNoDelay(true);
    socket.setSoTimeout((int) patience.toMillis());
    socket.connect(address);
    in = new BufferedInputStream(socket.getInputStream(), isSlow ? 256 : 8192);
  }

  /** Whether another request may be sent. */
  boolean isOpen() {
    return isOpen;
  }

  /** Sends a request, with lines of further headers. */
  void send(String method, String path, String body, String... headers) throws IOException {
    StringBuilder head = new StringBuilder(method + " " + path + " HTTP/1.1\r\nHost: halter\r\n");
    for (String header : headers) {
      head.append(header).append("\r\n");
    }
    int length = body.getBytes(StandardCharsets.UTF_8).length;
    write(head + "Content-Length: " + length + "\r\n\r\n" + body);
  }

  /** Sends what may be no request. */
  void write(String text) throws IOException {
    socket.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
  }

  Reply get(String path) throws IOException {
    send("GET", path, "");
    return reply();
  }

  /** The whole answer. */
  Reply reply() throws IOException {
    return rest(head());
  }

  /** The head of an answer, whose body is read by {@link #rest} or line by line. */
  Head head() throws IOException {
    String[] status = headLine().split(" ");
    Map<String, String> headers = new TreeMap<>();
    for (String line = headLine(); !line.isEmpty(); line = headLine()) {
      int colon = line.indexOf(':');
      headers.put(
          line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).strip());
    }
    isOpen &= !headers.getOrDefault("connection", "").equalsIgnoreCase("close");
    left = 0;
    return new Head(Integer.parseInt(status[1]), headers);
  }

  private String headLine() throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (int next = need(in.read()); next != '\n'; next = need(in.read())) {
      line.write(next);
    }
    return line.toString(StandardCharsets.UTF_8).stripTrailing();
  }

  private static int need(int read) throws EOFException {
    if (read < 0) {
      throw new EOFException("the server has left");
    }
    return read;
  }

  /** All of an answer whose head was read. */
  Reply rest(Head head) throws IOException {
    String length = head.headers.get("content-length");
    if (length != null) {
      byte[] body = in.readNBytes(Integer.parseInt(length));
      if (body.length < Integer.parseInt(length)) {
        throw new EOFException("the server has left in its answer");
      }
      return new Reply(head, new String(body, StandardCharsets.UTF_8));
    }
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    for (int next = nextOfChunks(); next >= 0; next = nextOfChunks()) {
      body.write(next);
    }
    return new Reply(head, body.toString(StandardCharsets.UTF_8));
  }

  /** The next line of a body that comes in chunks; null at its end. */
  String line() throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (int next = nextOfChunks(); next >= 0; next = nextOfChunks()) {
      if (next == '\n') {
        return line.toString(StandardCharsets.UTF_8);
      }
      line.write(next);
    }
    return null;
  }

  private int nextOfChunks() throws IOException {
    if (left == 0) {
      left = Integer.parseInt(headLine(), 16);
      if (left == 0) {
        headLine();
        return -1;
      }
    }
    int next = need(in.read());
    if (--left == 0) {
      headLine();
    }
    return next;
  }

  @Override
  public void close() throws IOException {
    isOpen = false;
    socket.close();
  }
}
