package dev.halter.device.cpu;

/**
 * The order in which faithful devices run the threads of a block and the blocks of a grid. CUDA
 * promises none, so the results of a correct kernel are the same under each, bit by bit.
 */
public enum Schedule {
  FORWARD(0),
  REVERSE(1),
  RANDOM(2);

  private final int number;

  Schedule(int number) {
    this.number = number;
  }

  /** What libhalter calls it by. */
  int number() {
    return number;
  }
}
