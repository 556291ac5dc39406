package dev.halter.cli.heads;

import dev.halter.heads.Behaviour;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

@Command(
    name = "xstest",
    description = {
      "Harmless prompts that sound harmful and their harmful contrasts, from a CSV like XSTest's:",
      "columns prompt and type; the n-th prompt of type T goes with the n-th of contrast_T."
    })
final class PairsXsTestCommand implements Callable<Integer> {
  @Mixin BehaviourOptions options;

  @Override
  public Integer call() {
    return options.run(Behaviour::readXsTest);
  }
}
