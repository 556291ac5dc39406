package dev.halter.tuning;

import dev.halter.pictures.LineChart;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** How the loss went over the steps of a run, as a picture. */
public final class LossCurve {
  /** Most points: of more steps, neighbours are drawn as their mean. */
  private static final int POINTS = 60;

  private LossCurve() {}

  /**
   * The picture.
   *
   * @param steps all of the run, at least one
   * @param heldOut how held-out texts were known at the end, or null
   */
  public static LineChart of(List<TuningRun.Step> steps, TuningRun.Evaluation heldOut) {
    int together = Math.ceilDiv(steps.size(), POINTS);
    List<LineChart.Point> points = new ArrayList<>();
    for (int from = 0; from < steps.size(); from += together) {
      points.add(point(steps.subList(from, Math.min(steps.size(), from + together))));
    }
    double level = heldOut == null ? Double.NaN : heldOut.loss();
    return new LineChart(
        "Loss of tuning",
        together == 1 ? List.of() : List.of("Each point is the mean of " + together + " steps."),
        "step",
        "loss per token of the completions, in nats",
        points,
        level,
        String.format(Locale.ROOT, "held-out texts at the end: %.4f", level));
  }

  private static LineChart.Point point(List<TuningRun.Step> steps) {
    double loss = steps.stream().mapToDouble(TuningRun.Step::loss).average().orElseThrow();
    int first = steps.getFirst().step();
    int last = steps.getLast().step();
    return new LineChart.Point(
        last,
        loss,
        String.format(
            Locale.ROOT,
            "%s: %.4f",
            first == last ? "step " + last : "steps " + first + " to " + last,
            loss));
  }
}
