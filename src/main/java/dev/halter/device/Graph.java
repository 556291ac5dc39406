package dev.halter.device;

/** Recorded work that replays with one call. */
public interface Graph extends AutoCloseable {
  /** Queues the recorded work once. */
  void launch();

  @Override
  void close();
}
