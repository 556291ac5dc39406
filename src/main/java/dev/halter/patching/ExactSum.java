package dev.halter.patching;

import java.io.Serializable;
import java.util.Arrays;
import java.util.List;

/**
 * A sum of doubles that is rounded once, when it is asked for: in whatever order and in whatever
 * parts it is summed, it is the same.
 *
 * <p>Source: Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
 * Predicates" (1997), Grow-Expansion, as Python's {@code math.fsum} uses it: terms that do not
 * overlap, smallest first, whose sum is the exact one.
 */
final class ExactSum implements Serializable {
  private static final long serialVersionUID = 1L;

  private double[] terms = new double[2];
  private int count;
  private double special; // the sum of what is not finite

  /** Adds a number. What is not finite makes the sum what IEEE arithmetic makes it. */
  void add(double number) {
    if (!Double.isFinite(number)) {
      special += number;
      return;
    }
    double sum = number;
    int kept = 0;
    for (int i = 0; i < count; i++) {
      double term = terms[i];
      double larger = Math.abs(sum) < Math.abs(term) ? term : sum;
      double smaller = Math.abs(sum) < Math.abs(term) ? sum : term;
      sum = larger + smaller;
      double rest = smaller - (sum - larger);
      if (rest != 0) {
        terms[kept++] = rest;
      }
    }
    if (kept == terms.length) {
      terms = Arrays.copyOf(terms, 2 * kept);
    }
    terms[kept++] = sum;
    count = kept;
  }

  /** Adds another sum. */
  void add(ExactSum other) {
    other.terms().forEach(this::add);
  }

  /** Numbers whose exact sum this is, at least one. */
  List<Double> terms() {
    if (special != 0) { // or NaN
      return List.of(special);
    }
    return count == 0 ? List.of(0.0) : Arrays.stream(terms, 0, count).boxed().toList();
  }

  /** The nearest double, ties to even; NaN or infinite if a number was. */
  double value() {
    if (special != 0 || count == 0) {
      return special;
    }
    int i = count - 1;
    double sum = terms[i];
    double rest = 0;
    while (i > 0 && rest == 0) {
      double term = terms[--i];
      double before = sum;
      sum = before + term;
      rest = term - (sum - before);
    }
    // What lies below a tie decides it.
    if (i > 0 && Math.signum(rest) == Math.signum(terms[i - 1])) {
      double twice = 2 * rest;
      double next = sum + twice;
      if (twice == next - sum) {
        return next;
      }
    }
    return sum;
  }
}
