package dev.halter.evaluation;

import dev.halter.evaluation.ControlEvaluation.Choice;
import dev.halter.evaluation.ControlEvaluation.Setting;
import dev.halter.evaluation.ControlScores.Best;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.heads.HeadFit;
import dev.halter.heads.JointControl;
import dev.halter.heads.JointControl.Part;
import dev.halter.model.Head;
import dev.halter.patching.Effects;
import dev.halter.patching.PathPatching;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.steering.HeadControl;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * Finds each task's heads by path patching, and the setting of its control that is best on its
 * training prompts at little cost elsewhere: how many heads, which tokens, which method, which
 * strength.
 */
final class ControlSearch {
  /** Longest answer, in tokens. */
  static final int ANSWER = 32;

  /** Name of the maps that are fitted on all tasks' samples. */
  private static final String MERGED = "merged";

  private final LanguageModel model;
  private final List<ControlTask> tasks;
  private final Setting setting;
  private final ControlScores scores;

  ControlSearch(
      LanguageModel model, List<ControlTask> tasks, Setting setting, ControlScores scores) {
    this.model = model;
    this.tasks = tasks;
    this.setting = setting;
    this.scores = scores;
  }

  /**
   * What is under control.
   *
   * @param task null for all tasks
   * @param order heads, those of the largest effect first
   * @param fits outputs of all these heads
   * @param effects by layer and head
   * @param choice what was chosen
   */
  record Controlled(
      ControlTask task,
      List<Head> order,
      Map<Reach, HeadFit> fits,
      double[][] effects,
      Choice choice) {}

  /**
   * Finds a task's heads and tries all settings on its training prompts.
   *
   * @throws IllegalArgumentException if more heads are to be tried than there are
   */
  Controlled choose(ControlTask task) {
    ModelConfig config = model.config();
    Effects effects =
        PathPatching.of(
            model.llama(), task.pairs(model, ANSWER), Variant.RECOMPUTE, false, done -> {});
    double[][] relative = new double[config.nLayers()][config.nHeads()];
    List<Head> order = new ArrayList<>(Head.all(config));
    for (Head head : order) {
      relative[head.layer()][head.head()] = effects.of(head).relative();
    }
    order.sort((x, y) -> Double.compare(magnitude(relative, y), magnitude(relative, x)));
    Map<Reach, HeadFit> fits =
        fits(reach -> new HeadFit(model, order, task.sides(model, reach, ANSWER)));
    List<List<Head>> sets = new ArrayList<>();
    for (int count : setting.heads()) {
      if (count < 1 || count > order.size()) {
        throw new IllegalArgumentException(
            "%d heads are to be tried, must be 1 to %d".formatted(count, order.size()));
      }
      sets.add(first(order, count));
    }
    Choice choice = choose(task.name(), List.of(task), List.of(), fits, sets);
    return new Controlled(task, order, fits, relative, choice);
  }

  private static double magnitude(double[][] effects, Head head) {
    return Math.abs(effects[head.layer()][head.head()]);
  }

  private Map<Reach, HeadFit> fits(Function<Reach, HeadFit> fit) {
    Map<Reach, HeadFit> fits = new EnumMap<>(Reach.class);
    setting.reaches().forEach(reach -> fits.put(reach, fit.apply(reach)));
    return fits;
  }

  private static List<Head> first(List<Head> order, int count) {
    return List.copyOf(order.subList(0, count));
  }

  /** The setting that, after what is in place, is best on the training prompts of some tasks. */
  private Choice choose(
      String name,
      List<ControlTask> judges,
      List<Intervention> inPlace,
      Map<Reach, HeadFit> fits,
      List<List<Head>> sets) {
    List<Choice> tried = new ArrayList<>();
    List<SteeringPlan> plans = new ArrayList<>();
    for (List<Head> heads : sets) {
      for (Reach reach : setting.reaches()) {
        for (Method method : setting.methods()) {
          HeadControl control = fits.get(reach).control(heads, method, setting.shrinkage());
          for (float strength : setting.strengths()) {
            tried.add(new Choice(name, heads, reach, method, strength, 0, 0, 0));
            List<Intervention> together = new ArrayList<>(inPlace);
            together.addAll(reach.of(control.edits(strength)));
            plans.add(new SteeringPlan(name, together));
          }
        }
      }
    }
    double before =
        scores.trained(judges, List.of(new SteeringPlan(name, inPlace)))[0] / judges.size();
    Best best = scores.best(judges, plans);
    Choice found = tried.get(best.index());
    return new Choice(
        name,
        found.heads(),
        found.reach(),
        found.method(),
        found.strength(),
        before,
        best.sum() / judges.size(),
        best.cost());
  }

  /** A task's control as a part of a joint one. */
  Part part(Controlled controlled) {
    Choice choice = controlled.choice;
    return new Part(control(controlled.fits, choice), choice.strength(), controlled.effects);
  }

  private HeadControl control(Map<Reach, HeadFit> fits, Choice choice) {
    return fits.get(choice.reach()).control(choice.heads(), choice.method(), setting.shrinkage());
  }

  /**
   * One setting for all tasks: maps that are fitted on all their samples, of the heads that were
   * chosen for them or of as many of each.
   */
  Controlled merged(List<Controlled> controlled, List<Head> chosen) {
    Map<Reach, HeadFit> fits =
        fits(
            reach ->
                HeadFit.merged(controlled.stream().map(task -> task.fits.get(reach)).toList()));
    List<List<Head>> sets = new ArrayList<>();
    for (int count : setting.heads()) {
      sets.add(
          controlled.stream()
              .flatMap(task -> first(task.order, count).stream())
              .distinct()
              .toList());
    }
    sets.add(chosen);
    Choice choice = choose(MERGED, tasks, List.of(), fits, sets.stream().distinct().toList());
    return new Controlled(null, choice.heads(), fits, null, choice);
  }

  /**
   * Tasks by what control gives them alone, each with heads that no task before it has, or none.
   */
  List<Controlled> apart(List<Controlled> controlled) {
    List<Controlled> order = new ArrayList<>(controlled);
    order.sort(Comparator.comparingDouble((Controlled task) -> task.choice.after()).reversed());
    List<Controlled> apart = new ArrayList<>();
    for (Controlled next : order) {
      List<Head> left = new ArrayList<>(next.order);
      apart.forEach(before -> left.removeAll(before.choice.heads()));
      List<List<Head>> sets =
          setting.heads().stream()
              .map(count -> first(left, Math.min(count, left.size())))
              .distinct()
              .toList();
      Choice choice = choose(next.task.name(), tasks, maps(apart), next.fits, sets);
      apart.add(new Controlled(next.task, next.order, next.fits, next.effects, choice.orNothing()));
    }
    return apart;
  }

  /** A contested head has the map of the task in which its effect is larger. */
  List<Intervention> shared(List<Controlled> controlled, JointControl joint) {
    List<Intervention> maps = new ArrayList<>();
    for (int i = 0; i < controlled.size(); i++) {
      List<Integer> owner = List.of(i);
      maps.addAll(
          maps(
              controlled.get(i),
              joint.owners().keySet().stream()
                  .filter(head -> joint.owners().get(head).equals(owner))
                  .toList()));
    }
    return maps;
  }

  /** All maps of these tasks, one after the other where tasks share a head. */
  List<Intervention> maps(List<Controlled> controlled) {
    return controlled.stream().flatMap(task -> maps(task).stream()).toList();
  }

  /** The maps of the heads that were chosen. */
  List<Intervention> maps(Controlled controlled) {
    return maps(controlled, controlled.choice.heads());
  }

  /** Maps of other heads with the settings that were chosen. */
  List<Intervention> maps(Controlled controlled, List<Head> heads) {
    if (heads.isEmpty()) {
      return List.of();
    }
    Choice choice = controlled.choice.of(heads);
    HeadControl control = control(controlled.fits, choice);
    return choice.reach().of(control.edits(choice.strength()));
  }
}
