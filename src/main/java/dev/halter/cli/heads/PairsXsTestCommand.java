package dev.halter.cli.heads;

import dev.halter.heads.Behaviour;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

@Command(
    name = "xstest",
    description = {
      "Makes pairs of prompts from a CSV like XSTest's: harmless ones, and harmful contrasts.",
      "Columns are prompt and type; the n-th prompt of type T goes with the n-th of contrast_T."
    })
final class PairsXsTestCommand implements Callable<Integer> {
  @Mixin BehaviourOptions options;

  @Override
  public Integer call() {
    return options.run(Behaviour::readXsTest);
  }
}
