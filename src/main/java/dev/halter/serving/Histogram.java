package dev.halter.serving;

import java.util.ArrayList;
import java.util.List;

/** How often values were up to each of some bounds, as Prometheus counts. */
final class Histogram {
  private final List<Double> bounds;
  private final long[] counts; // one more, of larger values
  private double sum;

  Histogram(List<Double> bounds) {
    this.bounds = bounds;
    this.counts = new long[bounds.size() + 1];
  }

  /** Of counts up to {@code most}: 1, 2, 5, 10, 20, 50 and so on. */
  static Histogram ofCounts(int most) {
    List<Double> bounds = new ArrayList<>();
    for (long ten = 1; ten <= most; ten *= 10) {
      for (int step : new int[] {1, 2, 5}) {
        if (step * ten <= most) {
          bounds.add((double) (step * ten));
        }
      }
    }
    return new Histogram(bounds);
  }

  synchronized void add(double value) {
    int at = 0;
    while (at < bounds.size() && value > bounds.get(at)) {
      at++;
    }
    counts[at]++;
    sum += value;
  }

  synchronized void write(Exposition page, String name, String help) {
    List<Long> all = new ArrayList<>();
    for (long count : counts) {
      all.add(count);
    }
    page.histogram(name, help, bounds, all, sum);
  }
}
