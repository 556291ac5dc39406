package dev.halter.generation;

import java.time.Duration;
import java.util.stream.LongStream;

/** Counts what an engine does: written by its thread, read by any. */
final class Meter {
  private final int pages;
  private long completed;
  private long cancelled;
  private long expired;
  private long failed;
  private long rejected;
  private long promptTokens;
  private long sharedTokens;
  private long sharedLayers;
  private long generatedTokens;
  private long steps;
  private long fullSteps;
  private int pagesUsed;
  private final Histogram queueTime = new Histogram();
  private final Histogram timeToFirstToken = new Histogram();
  private final Histogram interTokenTime = new Histogram();

  /** Times, counted without making anything, since each token has one. */
  static final class Histogram {
    private final long[] counts = new long[EngineMetrics.Times.BOUNDS.size() + 1];
    private long nanos;

    void add(Duration time) {
      add(time.toNanos());
    }

    void add(long time) {
      int at = 0;
      while (at < counts.length - 1 && time * 1e-9 > EngineMetrics.Times.BOUNDS.get(at)) {
        at++;
      }
      counts[at]++;
      nanos += time;
    }

    EngineMetrics.Times read() {
      return new EngineMetrics.Times(
          LongStream.of(counts).boxed().toList(), Duration.ofNanos(nanos));
    }
  }

  Meter(int pages) {
    this.pages = pages;
  }

  synchronized void rejected() {
    rejected++;
  }

  synchronized void joined(Duration waited) {
    queueTime.add(waited);
  }

  synchronized void firstToken(Duration taken) {
    timeToFirstToken.add(taken);
  }

  synchronized void nextToken(long nanos) {
    interTokenTime.add(nanos);
  }

  synchronized void stepped(Engine.Step step, boolean wasFull) {
    steps++;
    fullSteps += wasFull ? 1 : 0;
    promptTokens += step.read();
    sharedTokens += step.shared();
    sharedLayers += step.sharedLayers();
    generatedTokens += step.generated();
  }

  synchronized void uses(int cachePages) {
    pagesUsed = cachePages;
  }

  synchronized void failed() {
    failed++;
  }

  synchronized void ended(Result.Finish finish) {
    switch (finish) {
      case STOP, LENGTH -> completed++;
      case CANCELLED -> cancelled++;
      case DEADLINE -> expired++;
    }
  }

  synchronized EngineMetrics read(int running, int waiting) {
    return new EngineMetrics(
        running,
        waiting,
        completed,
        cancelled,
        expired,
        failed,
        rejected,
        promptTokens,
        sharedTokens,
        sharedLayers,
        generatedTokens,
        steps,
        fullSteps,
        pagesUsed,
        pages,
        queueTime.read(),
        timeToFirstToken.read(),
        interTokenTime.read());
  }
}
