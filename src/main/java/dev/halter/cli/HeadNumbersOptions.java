package dev.halter.cli;

import dev.halter.evaluation.ControlEvaluation.Setting;
import java.util.List;
import picocli.CommandLine.Option;

/** How many heads of each behaviour an evaluation of controls tries. */
public final class HeadNumbersOptions {
  @Option(
      names = "--top",
      paramLabel = "N",
      split = ",",
      description =
          "Numbers of heads to try (default: powers of two from 1/64 to 1/4 of the model's: 1,2,4 of"
              + " 24 heads, 1 to 16 of 64).")
  private List<Integer> top;

  /** Refuses numbers below 1. */
  public void check() {
    if (top != null) {
      top.forEach(count -> OptionValue.requireAtLeastOne("--top", count));
    }
  }

  /** Those for a model of so many heads. */
  public List<Integer> of(int heads) {
    return top == null ? Setting.numbersOf(heads) : top;
  }
}
