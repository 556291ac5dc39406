package dev.halter.evaluation;

import dev.halter.evaluation.ControlTask.Prompt;
import dev.halter.evaluation.ControlTask.Suite;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.heads.HeadFit;
import dev.halter.heads.JointControl;
import dev.halter.heads.JointControl.Contested;
import dev.halter.heads.JointControl.Part;
import dev.halter.heads.RepeDirection;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.scoring.Perplexity;
import dev.halter.scoring.Question;
import dev.halter.steering.HeadControl;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * Several behaviours under control, each alone and all at once, beside baselines: the table of
 * Sparse Activation Control (arXiv 2411.02461), whose claim is that few heads carry a task and that
 * controlling several tasks together keeps what controlling one gives.
 *
 * <p>Heads come from path patching and maps from Gaussians of their outputs, both of training
 * prompts. How many heads, which tokens, which method and which strength are chosen for each task
 * alone on the training prompts, as are the baselines' layers, tokens and scales; everything
 * reported is of test prompts. All tasks at once are controlled in several ways: each task's own
 * maps, a contested head's being that of the task in which its effect is larger; all tasks' maps
 * one after the other; maps of the same heads fitted on all tasks' samples; and heads apart: task
 * after task, best first, is set up anew among the heads that are left, with what was chosen before
 * in place. What is chosen for all tasks is chosen by the sum of their training shares. For
 * perplexity a text is taken for the answer to its first token. (The paper's own settings could not
 * be read: our inference.)
 */
public final class ControlEvaluation {
  /** Longest answer, in tokens. */
  private static final int ANSWER = 32;

  /** Name of the maps that are fitted on all tasks' samples. */
  private static final String MERGED = "merged";

  /** Which tokens a control is fitted on and acts on. */
  public enum Reach {
    /** The prompt's last. */
    END(Trigger.LAST),
    /** The prompt's last and the answer's. */
    ANSWER(Trigger.FROM_LAST),
    /** Every token of prompt and answer; fitted on those that both sides end with. */
    ALL(Trigger.ALWAYS);

    private final Trigger trigger;

    Reach(Trigger trigger) {
      this.trigger = trigger;
    }
  }

  /**
   * What is tried.
   *
   * @param heads numbers of heads
   * @param strengths of maps, and scales of directions
   * @param shrinkage of covariances
   * @param reaches of maps and directions
   * @param draws of random heads
   */
  public record Setting(
      List<Integer> heads,
      List<Method> methods,
      List<Float> strengths,
      double shrinkage,
      List<Reach> reaches,
      int draws,
      long seed) {}

  /**
   * What was chosen on training prompts, for a task or for all.
   *
   * @param before share of wanted answers without control
   * @param after share with it
   */
  public record Choice(
      String task,
      List<Head> heads,
      Reach reach,
      Method method,
      float strength,
      double before,
      double after) {

    /** No heads, if these bring nothing. */
    private Choice orNothing() {
      return after > before
          ? this
          : new Choice(task, List.of(), reach, method, strength, before, before);
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
  private final ModelConfig config;
  private final Suite suite;
  private final Setting setting;
  private final Consumer<String> progress;

  private ControlEvaluation(
      LanguageModel model, Suite suite, Setting setting, Consumer<String> progress) {
    this.model = model;
    this.config = model.config();
    this.suite = suite;
    this.setting = setting;
    this.progress = progress;
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

  /** A task, its heads by effect, all heads' outputs, and what was chosen. */
  private record Controlled(
      ControlTask task,
      List<Head> order,
      Map<Reach, HeadFit> fits,
      double[][] effects,
      Choice choice) {}

  private Report run() {
    List<Controlled> controlled = new ArrayList<>();
    for (ControlTask task : suite.tasks()) {
      progress.accept("heads of " + task.name());
      controlled.add(choose(task));
    }
    List<Choice> choices = new ArrayList<>(controlled.stream().map(Controlled::choice).toList());
    List<Part> parts = controlled.stream().map(this::part).toList();
    JointControl joint = JointControl.of(parts, Contested.LARGER_EFFECT);

    List<SteeringPlan> plans = new ArrayList<>();
    plans.add(SteeringPlan.NONE);
    for (Controlled one : controlled) {
      plans.add(new SteeringPlan("heads for " + one.task.name(), maps(one, one.choice.heads)));
    }
    List<SteeringPlan> ways = new ArrayList<>();
    ways.add(shared("heads for all", controlled, joint));
    if (!joint.contested().isEmpty()) {
      ways.add(new SteeringPlan("heads for all, composed", maps(controlled)));
    }
    progress.accept("heads for all, merged");
    Map<Reach, HeadFit> merged = new EnumMap<>(Reach.class);
    for (Reach reach : setting.reaches) {
      merged.put(
          reach, HeadFit.merged(controlled.stream().map(one -> one.fits.get(reach)).toList()));
    }
    List<List<Head>> union = List.of(List.copyOf(joint.owners().keySet()));
    choices.add(choose(MERGED, suite.tasks(), List.of(), merged, union));
    ways.add(new SteeringPlan("heads for all, " + MERGED, maps(merged, choices.getLast())));
    progress.accept("heads for all, apart");
    List<Controlled> apart = apart(controlled);
    ways.add(new SteeringPlan("heads for all, apart", maps(apart)));
    SteeringPlan way = ways.get(best(trained(suite.tasks(), ways)));
    plans.addAll(ways);
    Random random = new Random(setting.seed);
    for (int draw = 1; draw <= setting.draws; draw++) {
      plans.add(new SteeringPlan("random heads, draw " + draw, randomHeads(controlled, random)));
    }
    plans.addAll(directions());

    List<Row> rows = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      progress.accept("test: " + plan.name());
      rows.add(row(plan));
    }
    List<Double> overlaps = new ArrayList<>();
    for (int i = 0; i < parts.size(); i++) {
      for (int j = i + 1; j < parts.size(); j++) {
        overlaps.add(JointControl.overlap(parts.get(i), parts.get(j)));
      }
    }
    List<Choice> chosenApart = apart.stream().map(Controlled::choice).toList();
    return new Report(choices, overlaps, joint.contested(), chosenApart, way.name(), rows);
  }

  private Part part(Controlled one) {
    Choice choice = one.choice;
    HeadFit fit = one.fits.get(choice.reach);
    return new Part(
        fit.control(choice.heads, choice.method, setting.shrinkage), choice.strength, one.effects);
  }

  /** A contested head has the map of the task in which its effect is larger. */
  private SteeringPlan shared(String name, List<Controlled> controlled, JointControl joint) {
    List<Intervention> all = new ArrayList<>();
    for (int i = 0; i < controlled.size(); i++) {
      List<Integer> owner = List.of(i);
      all.addAll(
          maps(
              controlled.get(i),
              joint.owners().keySet().stream()
                  .filter(head -> joint.owners().get(head).equals(owner))
                  .toList()));
    }
    return new SteeringPlan(name, all);
  }

  /**
   * Tasks by what control gives them alone, each with heads that no task before it has, or none.
   */
  private List<Controlled> apart(List<Controlled> controlled) {
    List<Controlled> order = new ArrayList<>(controlled);
    order.sort(Comparator.comparingDouble((Controlled one) -> one.choice.after).reversed());
    List<Controlled> apart = new ArrayList<>();
    for (Controlled one : order) {
      List<Head> left = new ArrayList<>(one.order);
      apart.forEach(before -> left.removeAll(before.choice.heads));
      List<List<Head>> sets =
          setting.heads.stream()
              .map(n -> first(left, Math.min(n, left.size())))
              .distinct()
              .toList();
      Choice choice = choose(one.task.name(), suite.tasks(), maps(apart), one.fits, sets);
      apart.add(new Controlled(one.task, one.order, one.fits, one.effects, choice.orNothing()));
    }
    return apart;
  }

  private static List<Head> first(List<Head> order, int count) {
    return List.copyOf(order.subList(0, count));
  }

  /** All maps of these tasks, one after the other where tasks share a head. */
  private List<Intervention> maps(List<Controlled> controlled) {
    List<Intervention> all = new ArrayList<>();
    controlled.forEach(one -> all.addAll(maps(one, one.choice.heads)));
    return all;
  }

  /** The maps of a task with the settings that were chosen for it, of other heads if need be. */
  private List<Intervention> maps(Controlled one, List<Head> heads) {
    Choice choice = one.choice;
    return maps(
        one.fits,
        new Choice(choice.task, heads, choice.reach, choice.method, choice.strength, 0, 0));
  }

  private List<Intervention> maps(Map<Reach, HeadFit> fits, Choice choice) {
    if (choice.heads.isEmpty()) {
      return List.of();
    }
    HeadControl control =
        fits.get(choice.reach).control(choice.heads, choice.method, setting.shrinkage);
    return interventions(control.edits(choice.strength), choice.reach);
  }

  /** Finds a task's heads and tries all settings on its training prompts. */
  private Controlled choose(ControlTask task) {
    List<Pair> pairs = task.pairs(model, ANSWER);
    Effects effects = PathPatching.of(model.llama(), pairs, Variant.RECOMPUTE, false, done -> {});
    double[][] relative = new double[config.nLayers()][config.nHeads()];
    List<Head> order = new ArrayList<>(Head.all(config));
    for (Head head : order) {
      int patch = PathPatching.head(config, head.layer(), head.head());
      relative[head.layer()][head.head()] = effects.of(patch).relative();
    }
    order.sort((x, y) -> Double.compare(magnitude(relative, y), magnitude(relative, x)));
    Map<Reach, HeadFit> fits = new EnumMap<>(Reach.class);
    for (Reach reach : setting.reaches) {
      fits.put(reach, new HeadFit(model, order, sides(task, reach)));
    }
    List<List<Head>> sets = new ArrayList<>();
    for (int count : setting.heads) {
      if (count < 1 || count > order.size()) {
        throw new IllegalArgumentException(
            "%d heads are to be tried, must be 1 to %d".formatted(count, order.size()));
      }
      sets.add(first(order, count));
    }
    Choice choice = choose(task.name(), List.of(task), List.of(), fits, sets);
    return new Controlled(task, order, fits, relative, choice);
  }

  /** The setting that, after what is in place, is best on the training prompts of some tasks. */
  private Choice choose(
      String name,
      List<ControlTask> tasks,
      List<Intervention> inPlace,
      Map<Reach, HeadFit> fits,
      List<List<Head>> sets) {
    List<Choice> tried = new ArrayList<>();
    List<SteeringPlan> plans = new ArrayList<>();
    for (List<Head> heads : sets) {
      for (Reach reach : setting.reaches) {
        for (Method method : setting.methods) {
          HeadControl control = fits.get(reach).control(heads, method, setting.shrinkage);
          for (float strength : setting.strengths) {
            tried.add(new Choice(name, heads, reach, method, strength, 0, 0));
            List<Intervention> all = new ArrayList<>(inPlace);
            all.addAll(interventions(control.edits(strength), reach));
            plans.add(new SteeringPlan(name, all));
          }
        }
      }
    }
    double before = trained(tasks, List.of(new SteeringPlan(name, inPlace)))[0] / tasks.size();
    double[] sums = trained(tasks, plans);
    int best = best(sums);
    Choice one = tried.get(best);
    double after = sums[best] / tasks.size();
    return new Choice(name, one.heads, one.reach, one.method, one.strength, before, after);
  }

  private Sides sides(ControlTask task, Reach reach) {
    return switch (reach) {
      case END -> Sides.end(task.positive(), task.negative());
      case ANSWER -> Sides.answered(model, task.positive(), task.negative(), ANSWER);
      case ALL -> Sides.answered(model, task.positive(), task.negative(), ANSWER).alike();
    };
  }

  private static double magnitude(double[][] effects, Head head) {
    return Math.abs(effects[head.layer()][head.head()]);
  }

  /** The first of the largest: settings are tried from the mildest on. */
  private static int best(double[] scores) {
    int best = 0;
    for (int i = 1; i < scores.length; i++) {
      best = scores[i] > scores[best] ? i : best;
    }
    return best;
  }

  /** As many heads for each task as it has, of those that no task has: its maps of them. */
  private List<Intervention> randomHeads(List<Controlled> controlled, Random random) {
    List<Head> others = new ArrayList<>(Head.all(config));
    controlled.forEach(one -> others.removeAll(one.choice.heads));
    if (others.isEmpty()) {
      throw new IllegalArgumentException(
          "the tasks' heads are all heads: none is left to compare with; try fewer");
    }
    Collections.shuffle(others, random);
    List<Intervention> all = new ArrayList<>();
    for (Controlled one : controlled) {
      int count = Math.min(one.choice.heads.size(), others.size());
      all.addAll(maps(one, List.copyOf(others.subList(0, count))));
      Collections.rotate(others, -count); // the next task has others, as long as there are some
    }
    return all;
  }

  /** RepE for each task, the mean of its directions over tasks, and one of all tasks' prompts. */
  private List<SteeringPlan> directions() {
    Map<Reach, List<List<float[]>>> ofTasks = new EnumMap<>(Reach.class);
    Map<Reach, List<float[]>> merged = new EnumMap<>(Reach.class);
    for (Reach reach : setting.reaches) {
      progress.accept("directions, " + reach.name().toLowerCase(Locale.ROOT));
      Sides all = new Sides(new ArrayList<>(), new ArrayList<>());
      List<List<float[]>> vectors = new ArrayList<>();
      for (ControlTask task : suite.tasks()) {
        Sides sides = sides(task, reach);
        vectors.add(RepeDirection.pca(model, sides));
        all.positive().addAll(sides.positive());
        all.negative().addAll(sides.negative());
      }
      ofTasks.put(reach, vectors);
      merged.put(reach, RepeDirection.pca(model, all));
    }
    List<SteeringPlan> plans = new ArrayList<>();
    for (int i = 0; i < suite.tasks().size(); i++) {
      ControlTask task = suite.tasks().get(i);
      Map<Reach, List<float[]>> own = new EnumMap<>(Reach.class);
      for (Map.Entry<Reach, List<List<float[]>>> entry : ofTasks.entrySet()) {
        own.put(entry.getKey(), entry.getValue().get(i));
      }
      plans.add(direction("RepE for " + task.name(), own, List.of(task)));
    }
    Map<Reach, List<float[]>> mean = new EnumMap<>(Reach.class);
    ofTasks.forEach((reach, vectors) -> mean.put(reach, RepeDirection.mean(vectors)));
    plans.add(direction("RepE, mean of directions", mean, suite.tasks()));
    plans.add(direction("RepE, merged prompts", merged, suite.tasks()));
    return plans;
  }

  /** The tokens, the layers (one or all) and the scale that are best on the training prompts. */
  private SteeringPlan direction(
      String name, Map<Reach, List<float[]>> vectors, List<ControlTask> tasks) {
    List<SteeringPlan> plans = new ArrayList<>();
    vectors.forEach(
        (reach, layers) -> {
          for (int layer = -1; layer < layers.size(); layer++) {
            int only = layer;
            int[] chosen =
                IntStream.range(0, layers.size()).filter(i -> only < 0 || i == only).toArray();
            for (float scale : setting.strengths) {
              List<Edit> edits = new ArrayList<>();
              for (int i : chosen) {
                edits.add(new Edit.Add(new Site(Site.Kind.RESID_POST, i), layers.get(i), scale));
              }
              plans.add(new SteeringPlan(name, interventions(edits, reach)));
            }
          }
        });
    progress.accept("scales: " + name);
    return plans.get(best(trained(tasks, plans)));
  }

  /** The sum of the tasks' shares on their training prompts, under each plan. */
  private double[] trained(List<ControlTask> tasks, List<SteeringPlan> plans) {
    double[] sums = new double[plans.size()];
    for (ControlTask task : tasks) {
      double[] scores = scores(task.train(), plans);
      Arrays.setAll(sums, i -> sums[i] + scores[i]);
    }
    return sums;
  }

  private static List<Intervention> interventions(List<Edit> edits, Reach reach) {
    return edits.stream().map(edit -> new Intervention(edit, reach.trigger)).toList();
  }

  /** The same edits where they act in a text that is taken for the answer to its first token. */
  private static SteeringPlan inTexts(SteeringPlan plan) {
    List<Intervention> same = new ArrayList<>();
    for (Intervention one : plan.interventions()) {
      boolean end = one.trigger().equals(Reach.END.trigger);
      same.add(new Intervention(one.edit(), end ? Trigger.FIRST : Trigger.ALWAYS));
    }
    return new SteeringPlan(plan.name(), same);
  }

  private Row row(SteeringPlan plan) {
    double[] tasks =
        suite.tasks().stream().mapToDouble(task -> scores(task.test(), List.of(plan))[0]).toArray();
    double other = suite.other().isEmpty() ? Double.NaN : share(suite.other(), List.of(plan))[0];
    double perplexity = Perplexity.of(model.engine(), suite.texts(), inTexts(plan));
    return new Row(plan.name(), tasks, other, perplexity);
  }

  /** Share of wanted answers under each plan. */
  private double[] scores(List<Prompt> prompts, List<SteeringPlan> plans) {
    return share(prompts.stream().map(Prompt::question).toList(), plans);
  }

  private double[] share(List<Question> questions, List<SteeringPlan> plans) {
    List<Question.Plans> same = new ArrayList<>();
    plans.forEach(plan -> same.add(question -> plan));
    boolean[][] right = Question.ask(model.engine(), questions, same, done -> {});
    return Arrays.stream(right)
        .mapToDouble(
            answers ->
                (double) IntStream.range(0, answers.length).filter(i -> answers[i]).count()
                    / answers.length)
        .toArray();
  }
}
