package dev.halter.spark;

import dev.halter.files.JsonObject;
import dev.halter.generation.AsyncEngine;
import dev.halter.generation.EngineMetrics;
import dev.halter.generation.LanguageModel;
import dev.halter.steering.PlanCache;
import dev.halter.steering.SteeringPlan;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.spark.TaskContext;

/** A model and the engine over it, which all tasks of an executor submit to that have its place. */
final class SharedEngine implements ExecutorCache.Kept {
  private final Place place;
  private final LanguageModel model;
  private final AsyncEngine engine;
  private final ExecutorEnd ending;
  private final Map<List<?>, PlanCache> plans = new HashMap<>();
  private EngineMetrics told;

  SharedEngine(Place place, LanguageModel model, ExecutorEnd ending) {
    this.place = place;
    this.model = model;
    if (model.hasTokenizer()) {
      model.tokenizer(); // a broken one is an error of the folder, not of each row
    }
    this.engine = new AsyncEngine(model.engine(), Integer.MAX_VALUE); // tasks bound what waits
    this.ending = ending;
    this.told = engine.metrics();
  }

  /** The engine of a task. */
  static SharedEngine of(ModelSettings settings, TaskContext task, BatchMetrics metrics) {
    Place place = Place.of(settings.device(), task);
    return ExecutorCache.take(
        place,
        SharedEngine.class,
        settings,
        task,
        () -> {
          long start = System.nanoTime();
          SharedEngine opened =
              new SharedEngine(place, settings.opening(place).open(), ExecutorEnd.OF_THIS_PROCESS);
          metrics.opened(place, Duration.ofNanos(System.nanoTime() - start));
          return opened;
        });
  }

  LanguageModel model() {
    return model;
  }

  AsyncEngine engine() {
    return engine;
  }

  /** Most requests that run at once. */
  int maxBatch() {
    return model.llama().limits().sequences();
  }

  /**
   * Plans found from a folder, each behind those of all rows.
   *
   * @param first names of plans, or plans as JSON
   */
  synchronized PlanCache plans(String folder, List<String> first) {
    return plans.computeIfAbsent(
        List.of(folder, first),
        key -> {
          Path local = ModelSettings.local(folder);
          SteeringPlan all = SteeringPlan.NONE;
          for (String plan : first) {
            all = all.then(plan(plan, local));
          }
          return new PlanCache(model.config(), local, all);
        });
  }

  private SteeringPlan plan(String plan, Path folder) {
    if (RowJson.isObject(plan)) {
      JsonObject json = JsonObject.parse(Path.of("plan"), plan.getBytes(StandardCharsets.UTF_8));
      return SteeringPlan.of(json, folder, model.config());
    }
    return SteeringPlan.read(folder.resolve(RowJson.planFile(plan)), model.config());
  }

  /** What the engine has done that no task has told of, to be told by one. */
  synchronized EngineMetrics[] untold() {
    EngineMetrics[] span = {told, engine.metrics()};
    told = span[1];
    return span;
  }

  /**
   * What is to be thrown where the engine does not go on: this process may be gone before it is.
   */
  RuntimeException lost(Throwable problem) {
    return ending.end(place, problem);
  }

  @Override
  public boolean isBroken() {
    return !engine.takesRequests();
  }

  @Override
  public void close() {
    engine.close(Duration.ZERO);
    model.close();
  }
}
