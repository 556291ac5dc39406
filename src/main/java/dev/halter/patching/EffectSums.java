package dev.halter.patching;

import dev.halter.patching.Effects.Effect;

/** Sums over pairs of prompts, for each of a number of patches, of what it does to the answer. */
@SuppressWarnings("EnumOrdinal") // a place among sums, which no one else sees
final class EffectSums {
  /**
   * The last token of one run.
   *
   * @param logit of the answer
   * @param foil logit of the foil, NaN if the pair has none
   * @param logSumExp of all logits, NaN if not measured
   */
  record Run(double logit, double foil, double logSumExp) {}

  private final double[] reference = new double[Sum.values().length];
  private final double[][] patched;

  /** What is summed over pairs. */
  private enum Sum {
    PAIRS,
    LOGIT,
    REFERENCE,
    DELTA,
    DELTA_SQUARED,
    RELATIVE,
    PROBABILITY,
    FOILS,
    LOGIT_DIFFERENCE
  }

  EffectSums(int patches) {
    this.patched = new double[patches][Sum.values().length];
  }

  /** Adds a pair's reference run. */
  void addReference(Run run) {
    add(reference, run, run);
  }

  /** Adds a pair's run under a patch. */
  void add(int patch, Run referenceRun, Run run) {
    add(patched[patch], referenceRun, run);
  }

  private static void add(double[] sums, Run referenceRun, Run run) {
    double delta = run.logit - referenceRun.logit;
    sums[Sum.PAIRS.ordinal()]++;
    sums[Sum.LOGIT.ordinal()] += run.logit;
    sums[Sum.REFERENCE.ordinal()] += referenceRun.logit;
    sums[Sum.DELTA.ordinal()] += delta;
    sums[Sum.DELTA_SQUARED.ordinal()] += delta * delta;
    sums[Sum.RELATIVE.ordinal()] += delta / referenceRun.logit;
    sums[Sum.PROBABILITY.ordinal()] += Math.exp(run.logit - run.logSumExp);
    if (!Double.isNaN(referenceRun.foil)) {
      sums[Sum.FOILS.ordinal()]++;
      sums[Sum.LOGIT_DIFFERENCE.ordinal()] += run.logit - run.foil;
    }
  }

  private static Effect effect(double[] sums) {
    double n = sums[Sum.PAIRS.ordinal()];
    double mean = sums[Sum.DELTA.ordinal()] / n;
    double variance = (sums[Sum.DELTA_SQUARED.ordinal()] - n * mean * mean) / (n - 1);
    return new Effect(
        (int) n,
        sums[Sum.RELATIVE.ordinal()] / n,
        mean,
        Math.sqrt(Math.max(0, variance) / n),
        sums[Sum.DELTA.ordinal()] / sums[Sum.REFERENCE.ordinal()] + 0.0, // never -0.0
        sums[Sum.PROBABILITY.ordinal()] / n,
        sums[Sum.LOGIT_DIFFERENCE.ordinal()] / sums[Sum.FOILS.ordinal()]);
  }

  /** How many patches. */
  int size() {
    return patched.length;
  }

  /** Mean over pairs of the reference run's logit of the answer. */
  double referenceLogit() {
    return reference[Sum.LOGIT.ordinal()] / reference[Sum.PAIRS.ordinal()];
  }

  /** The reference runs as an effect: its deltas are 0. */
  Effect reference() {
    return effect(reference);
  }

  /** The effect of a patch; all NaN for one that was tried on no pair. */
  Effect of(int patch) {
    return effect(patched[patch]);
  }
}
