package dev.halter.cli;

import java.io.PrintStream;
import java.util.function.DoubleFunction;
import java.util.function.LongSupplier;

/**
 * How far a command is, on standard error. On a terminal, which the launcher tells by {@code
 * halter.terminal}, a bar; elsewhere a line now and then: none in the first ten seconds, then at
 * every tenth of the work, or each minute, whichever comes first, but none within ten seconds of
 * another.
 */
public final class ProgressBar implements AutoCloseable {
  private static final int WIDTH = 30;
  private static final long SECOND = 1_000_000_000;
  private static final long FRAME = SECOND / 10; // between two pictures of the bar
  private static final long SHORTEST = 10 * SECOND; // between two lines
  private static final long LONGEST = 60 * SECOND;

  private final String what;
  private final long total;
  private final boolean terminal;
  private final PrintStream out;
  private final LongSupplier clock;
  private final long start;
  private long last; // when the last bar or line was shown, from the start
  private long lastDone;
  private int lastLength; // of the bar

  public ProgressBar(String what, long total) {
    this(what, total, Boolean.getBoolean("halter.terminal"), System.err, System::nanoTime);
  }

  ProgressBar(String what, long total, boolean terminal, PrintStream out, LongSupplier nanoTime) {
    this.what = what;
    this.total = total;
    this.terminal = terminal;
    this.out = out;
    this.clock = nanoTime;
    this.start = nanoTime.getAsLong();
    this.last = terminal ? -FRAME : 0;
  }

  /** That so much is done, with the pieces of work done in a second. */
  public void at(long done) {
    at(done, this::rate);
  }

  private String rate(double seconds) {
    return "%,.1f/s".formatted(lastDone / seconds);
  }

  /**
   * That so much is done.
   *
   * @param figures of the work, made of the seconds since its beginning when they are shown
   */
  void at(long done, DoubleFunction<String> figures) {
    long now = clock.getAsLong() - start;
    if (total == 0 || !(terminal ? isFrame(now, done) : isLine(now, done))) {
      return;
    }
    last = now;
    lastDone = done;
    String shown = figures.apply((double) now / SECOND);
    if (terminal) {
      int filled = (int) (WIDTH * done / total);
      String bar =
          "%s [%s%s] %,d/%,d  %s "
              .formatted(what, "#".repeat(filled), ".".repeat(WIDTH - filled), done, total, shown);
      out.print("\r" + bar + " ".repeat(Math.max(0, lastLength - bar.length())));
      out.flush();
      lastLength = bar.length();
    } else {
      out.printf("%s: %,d of %,d (%d%%), %s%n", what, done, total, 100 * done / total, shown);
    }
  }

  private boolean isFrame(long now, long done) {
    return now - last >= FRAME || done >= total;
  }

  private boolean isLine(long now, long done) {
    return now - last >= SHORTEST && (10 * (done - lastDone) >= total || now - last >= LONGEST);
  }

  @Override
  public void close() {
    if (terminal) {
      out.println();
    }
  }
}
