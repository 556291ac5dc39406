package dev.halter.generation;

import java.time.Duration;

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
  private long generatedTokens;
  private int pagesUsed;
  private EngineMetrics.Times queueTime = EngineMetrics.Times.NONE;
  private EngineMetrics.Times timeToFirstToken = EngineMetrics.Times.NONE;

  Meter(int pages) {
    this.pages = pages;
  }

  synchronized void rejected() {
    rejected++;
  }

  synchronized void joined(Duration waited) {
    queueTime = queueTime.with(waited);
  }

  synchronized void firstToken(Duration taken) {
    timeToFirstToken = timeToFirstToken.with(taken);
  }

  synchronized void stepped(Engine.Step step) {
    promptTokens += step.read();
    sharedTokens += step.shared();
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
        generatedTokens,
        pagesUsed,
        pages,
        queueTime,
        timeToFirstToken);
  }
}
