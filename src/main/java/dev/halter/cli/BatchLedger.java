package dev.halter.cli;

import dev.halter.files.Json;
import java.nio.file.Path;
import java.util.Map;

/** What becomes of the lines of a batch: their results, and how many there are of which kind. */
final class BatchLedger {
  private final Path in;
  private final ResultFile results;
  private final ProgressBar bar;
  private long done;
  private int failed;
  private int skipped;

  BatchLedger(Path in, ResultFile results, ProgressBar bar) {
    this.in = in;
    this.results = results;
    this.bar = bar;
  }

  /** Whether a line was answered before; it is counted then. */
  synchronized boolean skips(InputLine line) {
    if (!results.has(line)) {
      return false;
    }
    skipped++;
    bar.at(++done);
    return true;
  }

  /** A line has its answer. */
  synchronized void answered(Object result) {
    results.write(result);
    bar.at(++done);
  }

  /** A line has none; its result says why. */
  synchronized void failed(InputLine line, String problem, Object result) {
    failed++;
    System.err.println("halter: " + in + ", " + line.failure(problem));
    results.write(result);
    bar.at(++done);
  }

  int failed() {
    return failed;
  }

  /** Says what was done. */
  void report(Path out, OutputOptions output) {
    long answered = done - skipped - failed;
    if (output.isJson()) {
      Map<String, Object> summary =
          Json.object(
              "lines", done,
              "answered", answered,
              "failed", failed,
              "skipped", skipped,
              "out", out.toString());
      output.print(summary);
    } else {
      System.out.printf(
          "%,d lines: %,d answered, %,d failed, %,d done before: %s%n",
          done, answered, failed, skipped, out);
    }
    if (failed > 0) {
      System.err.printf(
          "halter: %d of %d lines failed: their results hold an \"error\"%n", failed, done);
    }
  }
}
