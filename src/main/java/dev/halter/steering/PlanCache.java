package dev.halter.steering;

import dev.halter.files.JsonObject;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * The plans that requests name or hold, each read once however many do: requests that share a plan
 * share its tables on the device.
 */
public final class PlanCache {
  private final ModelConfig config;
  private final Path folder;
  private final SteeringPlan first;
  private final Map<Object, SteeringPlan> plans = new HashMap<>();

  /** Plans for a model, found from {@code folder}, each acting after {@code first}. */
  public PlanCache(ModelConfig config, Path folder, SteeringPlan first) {
    this.config = config;
    this.folder = folder;
    this.first = first;
  }

  /** The plan of a request: its {@code "plan"} is a file, the plan itself, or absent. */
  public SteeringPlan of(JsonObject request) {
    Object plan = request.value("plan");
    return switch (plan) {
      case null -> first;
      case String file ->
          plans.computeIfAbsent(
              file, name -> first.then(SteeringPlan.read(folder.resolve(file), config)));
      default ->
          plans.computeIfAbsent(
              plan, json -> first.then(SteeringPlan.of(request.object("plan"), folder, config)));
    };
  }
}
