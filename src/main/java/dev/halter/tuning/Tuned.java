package dev.halter.tuning;

/** Numbers of a layer that are tuned together, as a matrix. */
sealed interface Tuned permits Slice, HeadVectors {
  int layer();

  int rows();

  int columns();

  /** What tells it from all others of the model. */
  String name();

  default long elements() {
    return (long) rows() * columns();
  }
}
