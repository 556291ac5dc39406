package dev.halter.cli;

import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;

/** Plans that are shown by name. */
final class PlanFile {
  private PlanFile() {}

  /** Reads a plan; one that does not say its name has its file's. */
  static SteeringPlan read(Path file, ModelConfig config) {
    SteeringPlan plan = SteeringPlan.read(file, config);
    return plan.name().equals(SteeringPlan.UNNAMED)
        ? plan.named(file.getFileName().toString().replaceFirst("\\.json$", ""))
        : plan;
  }
}
