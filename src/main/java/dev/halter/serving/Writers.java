package dev.halter.serving;

import java.io.IOException;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Writes to clients. One that reads nothing for long, while its connection stands, would hold its
 * thread for ever: its connection is closed.
 */
final class Writers implements AutoCloseable {
  private final Duration patience;
  private final Set<Write> running = ConcurrentHashMap.newKeySet();
  private final Thread watch =
      Thread.ofVirtual().name("halter-slow-readers").unstarted(this::watch);

  Writers(Duration patience) {
    this.patience = patience;
    watch.start();
  }

  /** Something that sends bytes. */
  @FunctionalInterface
  interface Sending {
    void send() throws IOException;
  }

  private static final class Write {
    private final Thread thread = Thread.currentThread();
    private final long since = System.nanoTime();
    private boolean isDone;

    /** A thread that is interrupted while it writes to a channel closes it. */
    synchronized void breakOff() {
      if (!isDone) {
        thread.interrupt();
      }
    }

    synchronized void end() {
      isDone = true;
    }
  }

  /**
   * Sends.
   *
   * @throws IOException if nobody is there any more, or nobody reads
   */
  void run(Sending sending) throws IOException {
    Write write = new Write();
    running.add(write);
    try {
      sending.send();
    } finally {
      write.end();
      running.remove(write);
    }
  }

  private void watch() {
    try {
      while (true) {
        Thread.sleep(patience.dividedBy(4));
        long now = System.nanoTime();
        for (Write write : running) {
          if (now - write.since > patience.toNanos()) {
            write.breakOff();
          }
        }
      }
    } catch (InterruptedException e) {
      // closed
    }
  }

  @Override
  public void close() {
    watch.interrupt();
  }
}
