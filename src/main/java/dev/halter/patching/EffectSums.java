package dev.halter.patching;

import dev.halter.files.JsonObject;
import dev.halter.patching.Effects.Effect;
import java.io.Serializable;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/**
 * Sums over pairs of prompts, for each of a number of patches, of what it does to the answer. They
 * are exact, so that shards of the pairs add up to what one run over all gives, to the bit.
 */
@SuppressWarnings("EnumOrdinal") // a place among sums, which no one else sees
final class EffectSums implements Serializable {
  private static final long serialVersionUID = 1L;

  /**
   * The last token of one run.
   *
   * @param logit of the answer
   * @param foil logit of the foil, NaN if the pair has none
   * @param logSumExp of all logits, NaN if not measured
   */
  record Run(double logit, double foil, double logSumExp) {}

  private final ExactSum[] reference;
  private final ExactSum[][] patched;

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
    this(none(), Stream.generate(EffectSums::none).limit(patches).toArray(ExactSum[][]::new));
  }

  private EffectSums(ExactSum[] reference, ExactSum[][] patched) {
    this.reference = reference;
    this.patched = patched;
  }

  private static ExactSum[] none() {
    return Stream.generate(ExactSum::new).limit(Sum.values().length).toArray(ExactSum[]::new);
  }

  /** Adds a pair's reference run. */
  void addReference(Run run) {
    add(reference, run, run);
  }

  /** Adds a pair's run under a patch. */
  void add(int patch, Run referenceRun, Run run) {
    add(patched[patch], referenceRun, run);
  }

  private static void add(ExactSum[] sums, Run referenceRun, Run run) {
    double delta = run.logit - referenceRun.logit;
    sums[Sum.PAIRS.ordinal()].add(1);
    sums[Sum.LOGIT.ordinal()].add(run.logit);
    sums[Sum.REFERENCE.ordinal()].add(referenceRun.logit);
    sums[Sum.DELTA.ordinal()].add(delta);
    sums[Sum.DELTA_SQUARED.ordinal()].add(delta * delta);
    sums[Sum.RELATIVE.ordinal()].add(delta / referenceRun.logit);
    sums[Sum.PROBABILITY.ordinal()].add(Math.exp(run.logit - run.logSumExp));
    if (!Double.isNaN(referenceRun.foil)) {
      sums[Sum.FOILS.ordinal()].add(1);
      sums[Sum.LOGIT_DIFFERENCE.ordinal()].add(run.logit - run.foil);
    }
  }

  /** Adds what was summed over other pairs, for as many patches. */
  void add(EffectSums others) {
    add(reference, others.reference);
    for (int patch = 0; patch < patched.length; patch++) {
      add(patched[patch], others.patched[patch]);
    }
  }

  private static void add(ExactSum[] sums, ExactSum... others) {
    for (int i = 0; i < sums.length; i++) {
      sums[i].add(others[i]);
    }
  }

  private static Effect effect(ExactSum... exact) {
    double[] sums = Stream.of(exact).mapToDouble(ExactSum::value).toArray();
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

  /** As JSON: of the reference runs, then of each patch, the terms of every sum. */
  List<List<List<Double>>> document() {
    return Stream.concat(Stream.<ExactSum[]>of(reference), Stream.of(patched))
        .map(sums -> Stream.of(sums).map(ExactSum::terms).toList())
        .toList();
  }

  /** What {@link #document} made, under a key of a file. */
  static EffectSums of(JsonObject json, String key) {
    String wanted = "the sums of a shard of halter heads patch";
    if (!(json.value(key) instanceof List<?> rows) || rows.size() < 2) {
      throw json.wrong(key, wanted);
    }
    ExactSum[][] sums = new ExactSum[rows.size()][];
    for (int row = 0; row < sums.length; row++) {
      if (!(rows.get(row) instanceof List<?> terms) || terms.size() != Sum.values().length) {
        throw json.wrong(key, wanted);
      }
      sums[row] = none();
      for (int sum = 0; sum < terms.size(); sum++) {
        for (double term : EffectsFile.numbers(json, key, terms.get(sum), -1)) {
          sums[row][sum].add(term);
        }
      }
    }
    return new EffectSums(sums[0], Arrays.copyOfRange(sums, 1, sums.length));
  }

  /** How many patches. */
  int size() {
    return patched.length;
  }

  /** Mean over pairs of the reference run's logit of the answer. */
  double referenceLogit() {
    return reference[Sum.LOGIT.ordinal()].value() / reference[Sum.PAIRS.ordinal()].value();
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
