package dev.halter.evaluation;

import dev.halter.evaluation.ControlEvaluation.Setting;
import dev.halter.evaluation.ControlSearch.Controlled;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.heads.RandomHeads;
import dev.halter.heads.RepeDirection;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/** What the control of heads is set against: random heads, and directions (RepE). */
final class ControlBaselines {
  private final LanguageModel model;
  private final List<ControlTask> tasks;
  private final Setting setting;
  private final ControlScores scores;
  private final Consumer<String> progress;

  ControlBaselines(
      LanguageModel model,
      List<ControlTask> tasks,
      Setting setting,
      ControlScores scores,
      Consumer<String> progress) {
    this.model = model;
    this.tasks = tasks;
    this.setting = setting;
    this.scores = scores;
    this.progress = progress;
  }

  /**
   * For each draw as many heads for each task as it has, of those that no task has: its maps of
   * them.
   */
  List<SteeringPlan> randomHeads(List<Controlled> controlled, ControlSearch search) {
    List<Head> chosen =
        controlled.stream().flatMap(task -> task.choice().heads().stream()).toList();
    Random random = new Random(setting.seed());
    List<SteeringPlan> plans = new ArrayList<>();
    for (int draw = 1; draw <= setting.draws(); draw++) {
      RandomHeads others = new RandomHeads(model.config(), chosen, random);
      if (others.count() == 0) {
        throw new IllegalArgumentException(
            "the tasks' heads are all heads: none is left to compare with; try fewer");
      }
      List<Head> order = new ArrayList<>(others.draw());
      List<Intervention> maps = new ArrayList<>();
      for (Controlled task : controlled) {
        int count = Math.min(task.choice().heads().size(), order.size());
        maps.addAll(search.maps(task, List.copyOf(order.subList(0, count))));
        Collections.rotate(order, -count); // the next task has others, as long as there are some
      }
      plans.add(new SteeringPlan("random heads, draw " + draw, maps));
    }
    return plans;
  }

  /** RepE for each task, the mean of its directions over tasks, and one of all tasks' prompts. */
  List<SteeringPlan> directions() {
    Map<Reach, List<List<float[]>>> ofTasks = new EnumMap<>(Reach.class);
    Map<Reach, List<float[]>> merged = new EnumMap<>(Reach.class);
    for (Reach reach : setting.reaches()) {
      progress.accept("directions, " + reach.name().toLowerCase(Locale.ROOT));
      Sides together = new Sides(new ArrayList<>(), new ArrayList<>());
      List<List<float[]>> vectors = new ArrayList<>();
      for (ControlTask task : tasks) {
        Sides sides = task.sides(model, reach, ControlSearch.ANSWER);
        vectors.add(RepeDirection.pca(model, sides));
        together.positive().addAll(sides.positive());
        together.negative().addAll(sides.negative());
      }
      ofTasks.put(reach, vectors);
      merged.put(reach, RepeDirection.pca(model, together));
    }
    List<SteeringPlan> plans = new ArrayList<>();
    for (int i = 0; i < tasks.size(); i++) {
      int task = i;
      Map<Reach, List<float[]>> ofTask = new EnumMap<>(Reach.class);
      ofTasks.forEach((reach, vectors) -> ofTask.put(reach, vectors.get(task)));
      String name = "RepE for " + tasks.get(i).name();
      plans.add(direction(name, ofTask, List.of(tasks.get(i))));
    }
    Map<Reach, List<float[]>> mean = new EnumMap<>(Reach.class);
    ofTasks.forEach((reach, vectors) -> mean.put(reach, RepeDirection.mean(vectors)));
    plans.add(direction("RepE, mean of directions", mean, tasks));
    plans.add(direction("RepE, merged prompts", merged, tasks));
    return plans;
  }

  /** The tokens, the layers (one or all) and the scale that are best on the training prompts. */
  private SteeringPlan direction(
      String name, Map<Reach, List<float[]>> vectors, List<ControlTask> judges) {
    List<SteeringPlan> plans = new ArrayList<>();
    vectors.forEach(
        (reach, layers) -> {
          for (int layer = -1; layer < layers.size(); layer++) {
            int only = layer;
            int[] chosen =
                IntStream.range(0, layers.size()).filter(i -> only < 0 || i == only).toArray();
            for (float scale : setting.strengths()) {
              List<Edit> edits = new ArrayList<>();
              for (int i : chosen) {
                edits.add(new Edit.Add(new Site(Site.Kind.RESID_POST, i), layers.get(i), scale));
              }
              plans.add(new SteeringPlan(name, reach.of(edits)));
            }
          }
        });
    progress.accept("scales: " + name);
    return plans.get(scores.best(judges, plans).index());
  }
}
