package dev.halter.heads;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Perplexity;
import dev.halter.generation.Question;
import dev.halter.heads.Activations.Sides;
import dev.halter.heads.ControlTask.Prompt;
import dev.halter.heads.ControlTask.Suite;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.heads.JointControl.Contested;
import dev.halter.heads.JointControl.Part;
import dev.halter.heads.PathPatching.Variant;
import dev.halter.model.Site;
import dev.halter.model.SteeringTable.Edit;
import dev.halter.steering.HeadControl;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * Several behaviours under control, each alone and all at once, beside baselines: the table of
 * Sparse Activation Control (arXiv 2411.02461), whose claim is that few heads carry a task and that
 * controlling several tasks together keeps what controlling one gives.
 *
 * <p>Heads come from path patching and maps from Gaussians of their outputs, both of training
 * prompts. How many heads, which method and which strength are chosen for each task alone on the
 * training prompts, as are the baselines' layers and scales; everything reported is of test
 * prompts. For perplexity a text is taken for the answer to its first token. (The paper's own
 * settings could not be read: our inference.)
 */
public final class ControlEvaluation {
  /** Longest answer, in tokens. */
  private static final int ANSWER = 32;

  /** Which tokens a control is fitted on and acts on. */
  public enum Reach {
    /** The prompt's last. */
    END(Trigger.LAST),
    /** The prompt's last and the answer's. */
    ANSWER(Trigger.FROM_LAST);

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
   * @param reach of controls and directions
   * @param draws of random heads
   */
  public record Setting(
      List<Integer> heads,
      List<Method> methods,
      List<Float> strengths,
      double shrinkage,
      Reach reach,
      int draws,
      long seed) {}

  /**
   * What was chosen for a task on its training prompts.
   *
   * @param before share of wanted answers without control
   * @param after share with it
   */
  public record Choice(
      String task, List<Head> heads, Method method, float strength, double before, double after) {}

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
   * @param overlaps |A ∩ B| / k of each two tasks' heads, in the order 0-1, 0-2, …, 1-2, …
   * @param contested heads of several tasks
   */
  public record Report(
      List<Choice> choices, List<Double> overlaps, List<Head> contested, List<Row> rows) {}

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
  private record Controlled(ControlTask task, HeadFit fit, double[][] effects, Choice choice) {
    Part part(List<Head> heads, double shrinkage) {
      return new Part(fit.control(heads, choice.method, shrinkage), choice.strength, effects);
    }
  }

  private Report run() {
    List<Controlled> controlled = new ArrayList<>();
    for (ControlTask task : suite.tasks()) {
      progress.accept("heads of " + task.name());
      controlled.add(choose(task));
    }
    List<Part> parts =
        controlled.stream().map(c -> c.part(c.choice.heads, setting.shrinkage)).toList();
    JointControl joint = JointControl.of(parts, Contested.LARGER_EFFECT);

    List<SteeringPlan> plans = new ArrayList<>();
    plans.add(SteeringPlan.NONE);
    for (int i = 0; i < parts.size(); i++) {
      JointControl alone = JointControl.of(List.of(parts.get(i)), Contested.LARGER_EFFECT);
      plans.add(plan("heads for " + controlled.get(i).task.name(), alone.control()));
    }
    plans.add(plan("heads for all", joint.control()));
    plans.add(plan("heads for all, composed", JointControl.of(parts, Contested.COMPOSE).control()));
    Random random = new Random(setting.seed);
    for (int draw = 1; draw <= setting.draws; draw++) {
      plans.add(plan("random heads, draw " + draw, randomHeads(controlled, random).control()));
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
    List<Choice> choices = controlled.stream().map(Controlled::choice).toList();
    return new Report(choices, overlaps, joint.contested(), rows);
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
    HeadFit fit = new HeadFit(model, order, sides(task));

    List<Choice> tried = new ArrayList<>();
    List<SteeringPlan> plans = new ArrayList<>(List.of(SteeringPlan.NONE));
    for (int count : setting.heads) {
      if (count < 1 || count > order.size()) {
        throw new IllegalArgumentException(
            "%d heads are to be tried, must be 1 to %d".formatted(count, order.size()));
      }
      List<Head> heads = List.copyOf(order.subList(0, count));
      for (Method method : setting.methods) {
        HeadControl control = fit.control(heads, method, setting.shrinkage);
        for (float strength : setting.strengths) {
          tried.add(new Choice(task.name(), heads, method, strength, 0, 0));
          plans.add(plan("tried", control.at(strength)));
        }
      }
    }
    double[] scores = scores(task.train(), plans);
    int best = best(Arrays.copyOfRange(scores, 1, scores.length));
    Choice one = tried.get(best);
    Choice choice =
        new Choice(one.task, one.heads, one.method, one.strength, scores[0], scores[best + 1]);
    return new Controlled(task, fit, relative, choice);
  }

  private Sides sides(ControlTask task) {
    return setting.reach == Reach.END
        ? Sides.end(task.positive(), task.negative())
        : Sides.answered(model, task.positive(), task.negative(), ANSWER);
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

  /** As many heads for each task as it has, of those that no task has. */
  private JointControl randomHeads(List<Controlled> controlled, Random random) {
    List<Head> others = new ArrayList<>(Head.all(config));
    controlled.forEach(one -> others.removeAll(one.choice.heads));
    List<Part> parts = new ArrayList<>();
    for (Controlled one : controlled) {
      Collections.shuffle(others, random);
      int count = Math.min(one.choice.heads.size(), others.size());
      if (count == 0) {
        throw new IllegalArgumentException(
            "the tasks' heads are all heads: none is left to compare with; try fewer");
      }
      parts.add(one.part(List.copyOf(others.subList(0, count)), setting.shrinkage));
    }
    return JointControl.of(parts, Contested.LARGER_EFFECT);
  }

  /** RepE for each task, the mean of its directions over tasks, and one of all tasks' prompts. */
  private List<SteeringPlan> directions() {
    List<SteeringPlan> plans = new ArrayList<>();
    List<List<float[]>> vectors = new ArrayList<>();
    Sides all = new Sides(new ArrayList<>(), new ArrayList<>());
    for (ControlTask task : suite.tasks()) {
      progress.accept("directions of " + task.name());
      Sides sides = sides(task);
      all.positive().addAll(sides.positive());
      all.negative().addAll(sides.negative());
      vectors.add(Direction.pca(model, sides));
      plans.add(direction("RepE for " + task.name(), vectors.getLast(), List.of(task)));
    }
    progress.accept("directions of all");
    List<float[]> merged = Direction.pca(model, all);
    plans.add(direction("RepE, mean of directions", Direction.mean(vectors), suite.tasks()));
    plans.add(direction("RepE, merged prompts", merged, suite.tasks()));
    return plans;
  }

  /** The layers, one or all, and the scale that are best on the tasks' training prompts. */
  private SteeringPlan direction(String name, List<float[]> vectors, List<ControlTask> tasks) {
    List<SteeringPlan> plans = new ArrayList<>();
    for (int layer = -1; layer < vectors.size(); layer++) {
      for (float scale : setting.strengths) {
        int only = layer;
        List<Edit> edits =
            IntStream.range(0, vectors.size())
                .filter(i -> only < 0 || i == only)
                .mapToObj(i -> (Edit) add(i, vectors.get(i), scale))
                .toList();
        plans.add(plan(name, edits));
      }
    }
    double[] sums = new double[plans.size()];
    for (ControlTask task : tasks) {
      double[] scores = scores(task.train(), plans);
      Arrays.setAll(sums, i -> sums[i] + scores[i]);
    }
    return plans.get(best(sums));
  }

  private static Edit.Add add(int layer, float[] vector, float scale) {
    return new Edit.Add(new Site(Site.Kind.RESID_POST, layer), vector, scale);
  }

  private SteeringPlan plan(String name, HeadControl control) {
    return plan(name, control.edits(1));
  }

  private SteeringPlan plan(String name, List<Edit> edits) {
    return new SteeringPlan(
        name,
        edits.stream()
            .map(edit -> new Intervention("control", edit, setting.reach.trigger))
            .toList());
  }

  /** The same edits where they act in a text that is taken for the answer to its first token. */
  private SteeringPlan inTexts(SteeringPlan plan) {
    Trigger trigger = setting.reach == Reach.END ? Trigger.FIRST : Trigger.ALWAYS;
    return new SteeringPlan(
        plan.name(),
        plan.interventions().stream()
            .map(one -> new Intervention(one.op(), one.edit(), trigger))
            .toList());
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
