package dev.halter.cli;

/**
 * A bar on standard error, if that is a terminal; the launcher says so by {@code halter.terminal}.
 */
public final class ProgressBar implements AutoCloseable {
  private static final int WIDTH = 30;
  private static final long INTERVAL = 100_000_000;

  private final String what;
  private final long total;
  private final boolean terminal = Boolean.getBoolean("halter.terminal");
  private final long start = System.nanoTime();
  private long last = start - INTERVAL;

  public ProgressBar(String what, long total) {
    this.what = what;
    this.total = total;
  }

  public void at(long done) {
    long now = System.nanoTime();
    if (!terminal || total == 0 || now - last < INTERVAL && done < total) {
      return;
    }
    last = now;
    int filled = (int) (WIDTH * done / total);
    double seconds = (now - start) / 1e9;
    System.err.printf(
        "\r%s [%s%s] %,d/%,d  %,.1f/s ",
        what, "#".repeat(filled), ".".repeat(WIDTH - filled), done, total, done / seconds);
  }

  @Override
  public void close() {
    if (terminal) {
      System.err.println();
    }
  }
}
