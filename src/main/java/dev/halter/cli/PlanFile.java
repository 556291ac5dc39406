package dev.halter.cli;

import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

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

  /** Reads plans to be told apart: those that share a name have their files'. */
  static List<SteeringPlan> readApart(List<Path> files, ModelConfig config) {
    List<SteeringPlan> plans = files.stream().map(file -> read(file, config)).toList();
    List<SteeringPlan> apart = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      boolean shared = plans.stream().filter(each -> each.name().equals(plan.name())).count() > 1;
      apart.add(shared ? plan.named(files.get(apart.size()).toString()) : plan);
    }
    return apart;
  }
}
