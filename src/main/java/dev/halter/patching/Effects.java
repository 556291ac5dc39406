package dev.halter.patching;

import java.util.Arrays;
import java.util.List;

/**
 * What each of a number of patches does to the answer, over pairs of prompts. Logits are f32; means
 * are over the pairs that a patch was tried on.
 */
public final class Effects {
  /**
   * One patch's effect. {@code r} is a pair's logit of the answer in the reference run, {@code p}
   * that in the patched run.
   *
   * @param pairs that it was tried on
   * @param relative mean of (p − r) / r, as the arithmetic paper measures it (arXiv 2409.01659);
   *     whether it takes this mean or the next number is not known to us. A raw logit has no
   *     natural zero: both depend on where the model's logits happen to lie
   * @param delta mean of p − r
   * @param standardError of that mean
   * @param relativeOfMeans (mean p − mean r) / mean r
   * @param probability mean probability of the answer in the patched runs, NaN if not measured
   * @param logitDifference mean of answer − foil in the patched runs, over the pairs that have a
   *     foil (Wang et al. 2211.00593 measure by it); NaN if none has
   */
  public record Effect(
      int pairs,
      double relative,
      double delta,
      double standardError,
      double relativeOfMeans,
      double probability,
      double logitDifference) {}

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

  Effects(int patches) {
    this.patched = new double[patches][Sum.values().length];
  }

  /**
   * The last token of one run.
   *
   * @param logit of the answer
   * @param foil logit of the foil, NaN if the pair has none
   * @param logSumExp of all logits, NaN if not measured
   */
  record Run(float logit, float foil, float logSumExp) {}

  /** Adds a pair's reference run. */
  void addReference(Run run) {
    add(reference, run, run);
  }

  /** Adds a pair's run under a patch. */
  void add(int patch, Run referenceRun, Run run) {
    add(patched[patch], referenceRun, run);
  }

  private static void add(double[] sums, Run referenceRun, Run run) {
    double delta = (double) run.logit - referenceRun.logit;
    sums[Sum.PAIRS.ordinal()]++;
    sums[Sum.LOGIT.ordinal()] += run.logit;
    sums[Sum.REFERENCE.ordinal()] += referenceRun.logit;
    sums[Sum.DELTA.ordinal()] += delta;
    sums[Sum.DELTA_SQUARED.ordinal()] += delta * delta;
    sums[Sum.RELATIVE.ordinal()] += delta / referenceRun.logit;
    sums[Sum.PROBABILITY.ordinal()] += Math.exp((double) run.logit - run.logSumExp);
    if (!Float.isNaN(referenceRun.foil)) {
      sums[Sum.FOILS.ordinal()]++;
      sums[Sum.LOGIT_DIFFERENCE.ordinal()] += (double) run.logit - run.foil;
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
  public int size() {
    return patched.length;
  }

  /** Mean over pairs of the reference run's logit of the answer. */
  public double referenceLogit() {
    return reference[Sum.LOGIT.ordinal()] / reference[Sum.PAIRS.ordinal()];
  }

  /** The reference runs as an effect: its deltas are 0. */
  public Effect reference() {
    return effect(reference);
  }

  /** The effect of a patch; all NaN for one that was tried on no pair. */
  public Effect of(int patch) {
    return effect(patched[patch]);
  }

  /** All effects in order. */
  public List<Effect> all() {
    return Arrays.stream(patched).map(Effects::effect).toList();
  }
}
