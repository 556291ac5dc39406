package dev.halter.device;

import java.util.function.LongConsumer;

/** The host's clock, for devices whose work is done when its call returns. */
final class HostTimer implements Timer {
  private long start;

  @Override
  public void start() {
    start = System.nanoTime();
  }

  @Override
  public void stop(LongConsumer nanoseconds) {
    nanoseconds.accept(System.nanoTime() - start);
  }

  @Override
  public void finish() {}

  @Override
  public void close() {}
}
