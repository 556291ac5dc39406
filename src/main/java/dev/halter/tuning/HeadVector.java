package dev.halter.tuning;

/** A vector that is learnt for a head's output z (LoFiT, Yin et al. 2406.01563). */
public enum HeadVector {
  /** A factor for each element of z. */
  SCALE,

  /** What is added to each element of z. */
  BIAS
}
