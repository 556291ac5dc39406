package dev.halter.serving;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;

/** An answer that is sent piece by piece, by one thread at a time. */
final class Writing implements AutoCloseable {
  private final OutputStream out;

  Writing(OutputStream out) {
    this.out = out;
  }

  /**
   * Sends a piece at once.
   *
   * @throws IOException if nobody is there any more
   */
  synchronized void send(String text) throws IOException {
    out.write(text.getBytes(StandardCharsets.UTF_8));
    out.flush();
  }

  @Override
  public synchronized void close() throws IOException {
    out.close();
  }
}
