package dev.halter.tuning;

/**
 * How the learning rate goes over the steps of a run: as transformers' {@code get_scheduler} of the
 * same names has it.
 */
public enum RateSchedule {
  /** The same throughout. */
  CONSTANT {
    @Override
    double after(double progress) {
      return 1;
    }
  },

  /** Down to 0 in a straight line. */
  LINEAR {
    @Override
    double after(double progress) {
      return 1 - progress;
    }
  },

  /** Down to 0 along half a wave. */
  COSINE {
    @Override
    double after(double progress) {
      return 0.5 * (1 + Math.cos(Math.PI * progress));
    }
  };

  /**
   * The share of the learning rate that a step has.
   *
   * @param step from 0
   * @param warmup steps at the beginning in which it rises from 0 in a straight line
   * @param steps of the run
   */
  double factor(int step, int warmup, int steps) {
    return step < warmup
        ? (double) step / warmup
        : after((double) (step - warmup) / Math.max(1, steps - warmup));
  }

  /**
   * The share after the warm-up.
   *
   * @param progress from 0 to 1
   */
  abstract double after(double progress);
}
