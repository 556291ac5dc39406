package dev.halter.device;

import java.util.function.LongConsumer;

/** Measures how long work on a device takes, piece by piece. */
public interface Timer extends AutoCloseable {
  /** What is queued from here on is measured. */
  void start();

  /**
   * Up to here. A start without a stop measures nothing.
   *
   * @param nanoseconds hears how long it took, now or later, at the latest in {@link #finish}
   */
  void stop(LongConsumer nanoseconds);

  /** Waits until all that was measured is done and has been told. */
  void finish();

  @Override
  void close();
}
