package dev.halter.cli;

import java.io.PrintStream;
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

  public void at(long done) {
    long now = clock.getAsLong() - start;
    if (total == 0 || !(terminal ? isFrame(now, done) : isLine(now, done))) {
      return;
    }
    last = now;
    lastDone = done;
    double rate = done / ((double) now / SECOND);
    if (terminal) {
      int filled = (int) (WIDTH * done / total);
      out.printf(
          "\r%s [%s%s] %,d/%,d  %,.1f/s ",
          what, "#".repeat(filled), ".".repeat(WIDTH - filled), done, total, rate);
    } else {
      out.printf("%s: %,d of %,d (%d%%), %,.1f/s%n", what, done, total, 100 * done / total, rate);
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
