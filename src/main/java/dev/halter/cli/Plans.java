package dev.halter.cli;

import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;

/** Plans of the command line. */
final class Plans {
  private Plans() {}

  /** Several plan files as one, in order. */
  static SteeringPlan read(List<Path> files, ModelConfig config) {
    SteeringPlan all = SteeringPlan.NONE;
    for (Path file : files) {
      all = all.then(SteeringPlan.read(file, config));
    }
    return all;
  }
}
