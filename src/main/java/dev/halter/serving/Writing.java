package dev.halter.serving;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;

/** An answer that is sent piece by piece, by one thread at a time. */
final class Writing implements AutoCloseable {
  private final OutputStream out;
  private final Writers writers;

  Writing(OutputStream out, Writers writers) {
    this.out = out;
    this.writers = writers;
  }

  /**
   * Sends a piece at once.
   *
   * @throws IOException if nobody is there any more, or nobody reads
   */
  synchronized void send(String text) throws IOException {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    writers.run(
        () -> {
          out.write(bytes);
          out.flush();
        });
  }

  @Override
  public synchronized void close() throws IOException {
    writers.run(out::close);
  }
}
