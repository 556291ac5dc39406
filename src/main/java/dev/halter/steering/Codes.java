package dev.halter.steering;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;

/** The sparse codes that one removal made of some tokens, summed. */
final class Codes {
  private int solved;
  private double removed;
  private double iterations;
  private double worstKkt;
  private final Map<String, double[]> byName = new LinkedHashMap<>(); // {tokens, coefficients}

  /** Adds the code that {@code cuda-kernels/remove_concepts.cu} reports from {@code at} on. */
  void add(float[] report, int at, IntFunction<String> name) {
    solved++;
    iterations += report[at + 1];
    worstKkt = Math.max(worstKkt, report[at + 2]);
    removed += report[at + 3];
    for (int i = 0; i < Math.min(ConceptRemoval.NAMED, (int) report[at + 3]); i++) {
      double[] sums = sums(name.apply(Float.floatToRawIntBits(report[at + 4 + i])));
      sums[0]++;
      sums[1] += report[at + 4 + ConceptRemoval.NAMED + i];
    }
  }

  /** Adds codes of other tokens. */
  void add(Codes other) {
    solved += other.solved;
    iterations += other.iterations;
    worstKkt = Math.max(worstKkt, other.worstKkt);
    removed += other.removed;
    other.byName.forEach(
        (name, more) -> {
          double[] sums = sums(name);
          sums[0] += more[0];
          sums[1] += more[1];
        });
  }

  private double[] sums(String atom) {
    return byName.computeIfAbsent(atom, a -> new double[2]);
  }

  /** As a report tells them. */
  SteeringReport.Concepts told() {
    List<SteeringReport.Removed> atoms = new ArrayList<>();
    byName.forEach(
        (name, s) -> atoms.add(new SteeringReport.Removed(name, (int) s[0], s[1] / s[0])));
    atoms.sort(Comparator.comparingInt(SteeringReport.Removed::tokens).reversed());
    int n = Math.max(1, solved);
    return new SteeringReport.Concepts(
        solved, removed / n, List.copyOf(atoms), iterations / n, worstKkt);
  }
}
