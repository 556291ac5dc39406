package dev.halter.cli;

import dev.halter.evaluation.ControlTask;
import picocli.CommandLine.Option;

/** What a choice may cost elsewhere. */
public final class CostOptions {
  private static final int DEFAULT_POINTS = 5;

  @Option(
      names = "--cost",
      paramLabel = "P",
      description =
          "Points of the suite's other training questions ('other_train') that a choice may cost, 0"
              + " to 100 (default: "
              + DEFAULT_POINTS
              + "; a suite without any lets a choice cost what it may).")
  Double points;

  /**
   * Checks what was given.
   *
   * @throws WrongUseException naming the option
   */
  public void check() {
    if (points != null && !(points >= 0 && points <= 100)) {
      throw new WrongUseException("--cost is " + points + ", must be 0 to 100");
    }
  }

  /**
   * What a choice may cost of the suite's spared questions, as a share.
   *
   * @throws WrongUseException if a cost was given and the suite has no such questions
   */
  public double share(ControlTask.Suite suite) {
    if (points != null && suite.spared().isEmpty()) {
      throw new WrongUseException(
          "--cost needs questions that it is counted on: the suite has none under 'other_train'");
    }
    return (points == null ? DEFAULT_POINTS : points) / 100.0;
  }
}
