package dev.halter.cli;

import picocli.CommandLine.Option;

/** What a choice may cost elsewhere. */
public final class CostOptions {
  @Option(
      names = "--cost",
      paramLabel = "P",
      defaultValue = "5",
      description =
          "Points of the suite's other training questions that a choice may cost, 0 to 100"
              + " (default: ${DEFAULT-VALUE}).")
  double points;

  /**
   * Checks what was given.
   *
   * @throws WrongUseException naming the option
   */
  public void check() {
    if (!(points >= 0 && points <= 100)) {
      throw new WrongUseException("--cost is " + points + ", must be 0 to 100");
    }
  }

  /** As a share. */
  public double share() {
    return points / 100;
  }
}
