package dev.halter.steering;

import dev.halter.files.JsonObject;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The plans that requests name or hold, each read once however many do: requests that share a plan
 * share its tables on the device. Of plans that come and go for ever the last 4,096 are kept. Any
 * thread may ask.
 */
public final class PlanCache {
  private static final int MOST = 4096;

  private final ModelConfig config;
  private final Path folder;
  private final SteeringPlan first;
  private final Map<Object, SteeringPlan> plans =
      new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<Object, SteeringPlan> eldest) {
          return size() > MOST;
        }
      };

  /** Plans for a model, found from {@code folder}, each acting after {@code first}. */
  public PlanCache(ModelConfig config, Path folder, SteeringPlan first) {
    this.config = config;
    this.folder = folder;
    this.first = first;
  }

  /** The plan of a request: its {@code "plan"} is a file, the plan itself, or absent. */
  public synchronized SteeringPlan of(JsonObject request) {
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
