package dev.halter.evaluation;

import dev.halter.evaluation.ControlSearch.Controlled;
import dev.halter.evaluation.ControlTask.Suite;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.heads.JointControl;
import dev.halter.heads.JointControl.Contested;
import dev.halter.heads.JointControl.Part;
import dev.halter.model.Head;
import dev.halter.scoring.Perplexity;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * Several behaviours under control, each alone and all at once, beside baselines: the table of
 * Sparse Activation Control (arXiv 2411.02461), whose claim is that few heads carry a task and that
 * controlling several tasks together keeps what controlling one gives.
 *
 * <p>Heads come from path patching and maps from Gaussians of their outputs, both of training
 * prompts. How many heads, which tokens, which method and which strength are chosen for each task
 * alone on the training prompts, among those that cost little of other training questions, as are
 * the baselines' layers, tokens and scales; everything reported is of test prompts. All tasks at
 * once are controlled in several ways: each task's own maps, a contested head's being that of the
 * task in which its effect is larger; all tasks' maps one after the other; maps fitted on all
 * tasks' samples, of the same heads or of as many first ones of each task; and heads apart: task
 * after task, best first, is set up anew among the heads that are left, with what was chosen before
 * in place. What is chosen for all tasks is chosen by the sum of their training shares. For
 * perplexity a text is taken for the answer to its first token. (The paper's own settings could not
 * be read: our inference.)
 */
public final class ControlEvaluation {
  /**
   * What is tried.
   *
   * @param heads numbers of heads
   * @param strengths of maps, and scales of directions
   * @param shrinkage of covariances
   * @param cost most of the suite's spared questions, as a share, that a choice may cost
   * @param reaches of maps and directions
   * @param draws of random heads
   */
  public record Setting(
      List<Integer> heads,
      List<Method> methods,
      List<Float> strengths,
      double shrinkage,
      double cost,
      List<Reach> reaches,
      int draws,
      long seed) {

    /** Numbers of heads for a model of so many: powers of two from 1/64 to 1/4 of them. */
    public static List<Integer> numbersOf(int all) {
      List<Integer> counts = new ArrayList<>();
      for (int count = 1; count <= Math.max(1, all / 4); count *= 2) {
        if (count >= all / 64) {
          counts.add(count);
        }
      }
      return counts;
    }
  }

  /**
   * What was chosen on training prompts, for a task or for all.
   *
   * @param before share of wanted answers without control
   * @param after share with it
   * @param cost share of the spared questions that it costs, with what was in place before; NaN if
   *     there are none
   */
  public record Choice(
      String task,
      List<Head> heads,
      Reach reach,
      Method method,
      float strength,
      double before,
      double after,
      double cost) {

    /** No heads, if these bring nothing. */
    Choice orNothing() {
      return after > before
          ? this
          : new Choice(task, List.of(), reach, method, strength, before, before, cost);
    }

    /** The same settings for other heads. */
    Choice of(List<Head> others) {
      return new Choice(task, others, reach, method, strength, before, after, cost);
    }
  }

  /**
   * A line of the table.
   *
   * @param tasks share of wanted answers on each task's test prompts
   * @param other share of right answers to other questions, NaN if there are none
   * @param perplexity of the texts, NaN if there are none
   */
  public record Row(String name, double[] tasks, double other, double perplexity) {}

  /**
   * The table.
   *
   * @param choices for each task, then for the maps that are fitted on all tasks' samples
   * @param overlaps |A ∩ B| / k of each two tasks' heads, in the order 0-1, 0-2, …, 1-2, …
   * @param contested heads of several tasks
   * @param apart what was chosen for tasks with heads of their own, in their order of choice;
   *     before and after are means over all tasks' training prompts
   * @param joint name of the row of the joint control that is best on all training prompts
   */
  public record Report(
      List<Choice> choices,
      List<Double> overlaps,
      List<Head> contested,
      List<Choice> apart,
      String joint,
      List<Row> rows) {}

  private final LanguageModel model;
  private final Suite suite;
  private final Setting setting;
  private final Consumer<String> progress;
  private final ControlScores scores;
  private final ControlSearch search;

  private ControlEvaluation(
      LanguageModel model, Suite suite, Setting setting, Consumer<String> progress) {
    this.model = model;
    this.suite = suite;
    this.setting = setting;
    this.progress = progress;
    this.scores = new ControlScores(model.engine(), suite.spared(), setting.cost());
    this.search = new ControlSearch(model, suite.tasks(), setting, scores);
  }

  /**
   * Chooses, fits and measures.
   *
   * @param progress hears what is done next
   * @throws IllegalArgumentException if a system message changes no answer of a task, or more heads
   *     are to be tried than the model has
   */
  public static Report of(
      LanguageModel model, Suite suite, Setting setting, Consumer<String> progress) {
    return new ControlEvaluation(model, suite, setting, progress).run();
  }

  private Report run() {
    List<Controlled> controlled = new ArrayList<>();
    for (ControlTask task : suite.tasks()) {
      progress.accept("heads of " + task.name());
      controlled.add(search.choose(task));
    }
    List<Choice> choices = new ArrayList<>(controlled.stream().map(Controlled::choice).toList());
    List<Part> parts = controlled.stream().map(search::part).toList();
    JointControl joint = JointControl.of(parts, Contested.LARGER_EFFECT);

    List<SteeringPlan> plans = new ArrayList<>();
    plans.add(SteeringPlan.NONE);
    for (Controlled alone : controlled) {
      plans.add(new SteeringPlan("heads for " + alone.task().name(), search.maps(alone)));
    }
    List<SteeringPlan> ways = new ArrayList<>();
    ways.add(new SteeringPlan("heads for all", search.shared(controlled, joint)));
    if (!joint.contested().isEmpty()) {
      ways.add(new SteeringPlan("heads for all, composed", search.maps(controlled)));
    }
    progress.accept("heads for all, merged");
    Controlled merged = search.merged(controlled, List.copyOf(joint.owners().keySet()));
    choices.add(merged.choice());
    ways.add(new SteeringPlan("heads for all, " + merged.choice().task(), search.maps(merged)));
    progress.accept("heads for all, apart");
    List<Controlled> apart = search.apart(controlled);
    ways.add(new SteeringPlan("heads for all, apart", search.maps(apart)));
    SteeringPlan way = ways.get(scores.best(suite.tasks(), ways).index());
    plans.addAll(ways);
    ControlBaselines baselines =
        new ControlBaselines(model, suite.tasks(), setting, scores, progress);
    plans.addAll(baselines.randomHeads(controlled, search));
    plans.addAll(baselines.directions());

    List<Row> rows = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      progress.accept("test: " + plan.name());
      rows.add(row(plan));
    }
    List<Choice> chosenApart = apart.stream().map(Controlled::choice).toList();
    return new Report(choices, overlaps(parts), joint.contested(), chosenApart, way.name(), rows);
  }

  private static List<Double> overlaps(List<Part> parts) {
    List<Double> overlaps = new ArrayList<>();
    for (int i = 0; i < parts.size(); i++) {
      for (int j = i + 1; j < parts.size(); j++) {
        overlaps.add(JointControl.overlap(parts.get(i), parts.get(j)));
      }
    }
    return overlaps;
  }

  private Row row(SteeringPlan plan) {
    double[] tasks =
        suite.tasks().stream().mapToDouble(task -> scores.tested(task, plan)).toArray();
    double other =
        suite.other().isEmpty() ? Double.NaN : scores.right(suite.other(), List.of(plan))[0];
    double perplexity = Perplexity.of(model.engine(), suite.texts(), plan);
    return new Row(plan.name(), tasks, other, perplexity);
  }
}
