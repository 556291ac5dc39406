package dev.halter.cli;

import dev.halter.evaluation.Arithmetic;
import java.nio.file.Path;
import picocli.CommandLine.Option;

/** The sums that the heads of sums are found with. */
public final class SumsOptions {
  @Option(
      names = "--templates",
      paramLabel = "F",
      description =
          "Templates of sums (default: tasks/arithmetic.json of the model's folder, or the 36 that"
              + " ship).")
  Path templates;

  @Option(
      names = "--sums",
      paramLabel = "N",
      defaultValue = "200",
      description =
          "Sums to find heads with, and as many to measure with (default: ${DEFAULT-VALUE}).")
  public int count;

  /** Refuses a number that means nothing. */
  public void check() {
    if (count < 2) {
      throw new WrongUseException("--sums is " + count + ", must be 2 or more");
    }
  }

  /** The templates of sums. */
  public Arithmetic templates(Path modelFolder) {
    return templates == null ? Arithmetic.ofModel(modelFolder) : Arithmetic.read(templates);
  }
}
