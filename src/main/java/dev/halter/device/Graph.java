package dev.halter.device;

/** Recorded work that replays with one call. */
public interface Graph extends AutoCloseable {
  /** Queues the recorded work once. */
  void launch();

  @Override
  void close();

  /** For work that is not recorded: each launch runs it again. */
  static Graph again(Runnable work) {
    return new Graph() {
      @Override
      public void launch() {
        work.run();
      }

      @Override
      public void close() {}
    };
  }
}
