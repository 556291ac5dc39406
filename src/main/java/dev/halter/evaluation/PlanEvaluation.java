package dev.halter.evaluation;

import dev.halter.evaluation.Arm.Kind;
import dev.halter.evaluation.Task.Measures;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Interval;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.Fingerprint;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/**
 * What plans do at several doses, to the behaviour they are for and to all else, beside no plan,
 * the model being told instead, and plans of the same size of something drawn at random.
 *
 * <p>Of several doses one is chosen for each plan on every second item, from each task's first on;
 * what is reported of all arms is of the other items, which nothing was chosen by. The dose chosen
 * has the largest harmonic mean of how much of the wanted behaviour there is (mean over tasks, each
 * from 0 to 1) and of the capability that is kept (mean over tasks, each relative to no plan and at
 * most 1; where no task measures capability, of the unsteered perplexity of the answers likewise);
 * of equals the smallest dose, and of answers without a score none. AxBench (arXiv 2501.17148)
 * chooses its factors on one half too, by its judge's ratings alone.
 *
 * <p>Intervals are percentile bootstraps over items; a random plan's figure is the mean over draws
 * of each item, and a difference is taken item by item.
 */
public final class PlanEvaluation {
  /** A KL that rounding alone makes. */
  private static final double NOTHING = 1e-9;

  /**
   * What is tried.
   *
   * @param tasks each by its name, of which no two have the same
   * @param plans likewise
   * @param doses strengths of plans, at least one and each once
   * @param draws of random plans for each plan and dose; 0 for none
   * @param seed of draws and intervals
   */
  public record Tried(
      List<Task> tasks, List<SteeringPlan> plans, List<Double> doses, int draws, long seed) {

    /** Whether a dose is chosen on every second item, so that figures are of the others. */
    public boolean isHalved() {
      return doses.size() > 1
          && !plans.isEmpty()
          && tasks.stream().anyMatch(task -> task.measures() == Measures.BEHAVIOUR)
          && tasks.stream().allMatch(task -> task.items().size() > 1);
    }

    /** Whether figures have this reading among what they are of. */
    public boolean reports(Reading reading) {
      return !isHalved() || reading.index() % 2 == 1;
    }

    /** What tells it from others, by name. */
    Map<String, String> identity() {
      Map<String, String> identity = new LinkedHashMap<>();
      identity.put("tasks", digest(tasks)); // records, whose text is all that they hold
      identity.put(
          "plans", digest(plans.stream().map(each -> each.name() + each.fingerprint()).toList()));
      identity.put("doses", doses.toString());
      identity.put("draws", Integer.toString(draws));
      identity.put("seed", Long.toString(seed));
      return identity;
    }

    private static String digest(List<?> parts) {
      byte[] text = parts.toString().getBytes(StandardCharsets.UTF_8);
      return HexFormat.of().formatHex(Fingerprint.sha256().digest(text));
    }
  }

  /**
   * One task in one arm.
   *
   * @param score mean of the items' scores, or the perplexity of all
   * @param difference of its items' scores from those without a plan; of a perplexity none is taken
   * @param unscored items that have no score, such as those whose rating could not be read
   */
  public record Scored(Task task, Interval score, Interval difference, int unscored) {}

  /**
   * One arm.
   *
   * @param chosen whether its dose is the one chosen for its plan
   * @param entropy of the answers' n-grams, mean
   * @param distinct shares of different runs of one, two and three words, means over answers
   * @param perplexity of all answers to the unsteered model
   * @param distance mean KL from the distributions without a plan
   * @param same answers and choices that are those without a plan
   * @param items that could be so
   */
  public record Row(
      Arm arm,
      boolean chosen,
      List<Scored> scores,
      Interval entropy,
      List<Interval> distinct,
      Interval perplexity,
      Interval distance,
      int same,
      int items) {

    /** Whether no answer and, as far as they could be read, no distribution is another. */
    public boolean isIdle() {
      return same == items && !(distance.value() > NOTHING);
    }

    /** Whether there are differences, and the interval of each contains 0. */
    public boolean isUntold() {
      List<Interval> differences =
          scores.stream().map(Scored::difference).filter(each -> each.n() > 0).toList();
      return !differences.isEmpty() && differences.stream().allMatch(each -> each.contains(0));
    }
  }

  /** Everything: of all arms their figures. */
  public record Report(Tried tried, List<Row> rows) {}

  private final Tried tried;
  private final Map<Arm, List<Reading>> readings = new LinkedHashMap<>();

  private PlanEvaluation(Tried tried, List<Reading> all) {
    this.tried = tried;
    all.forEach(each -> readings.computeIfAbsent(each.arm(), arm -> new ArrayList<>()).add(each));
  }

  /**
   * Runs everything.
   *
   * @param judge for tasks that ask for one, else null
   * @param finished items that are there already, and where others go as soon as they are
   * @param progress hears what is done next
   * @throws IllegalArgumentException if an item is too long for the model, a plan cannot act on it,
   *     nothing random can stand for a plan, or a task needs a judge and there is none
   */
  public static Report of(
      LanguageModel model,
      Tried tried,
      Judge judge,
      FinishedItems finished,
      Consumer<String> progress) {
    for (Task task : tried.tasks) {
      if (task.score() instanceof Score.Judged && judge == null) {
        throw new IllegalArgumentException(
            "the task \"" + task.name() + "\" is scored by a judge, and none is named");
      }
    }
    List<Reading> all = Readings.of(model, tried, arms(model, tried), judge, finished, progress);
    return new PlanEvaluation(tried, all).report();
  }

  private static List<Arm> arms(LanguageModel model, Tried tried) {
    List<Arm> arms = new ArrayList<>();
    List<SteeringPlan> none = List.of(SteeringPlan.NONE);
    arms.add(new Arm(Kind.NONE, null, Double.NaN, none, null));
    for (String told : Task.promptings(tried.tasks)) {
      arms.add(new Arm(Kind.PROMPTING, told, Double.NaN, none, told));
    }
    for (SteeringPlan plan : tried.plans) {
      for (double dose : tried.doses) {
        List<SteeringPlan> steered = List.of(plan.scaled(dose));
        arms.add(new Arm(Kind.PLAN, plan.name(), dose, steered, null));
      }
      RandomPlans random = new RandomPlans(model.config(), plan, tried.seed);
      List<SteeringPlan> draws =
          IntStream.range(0, tried.draws).mapToObj(draw -> random.draw()).toList();
      for (double dose : draws.isEmpty() ? List.<Double>of() : tried.doses) {
        List<SteeringPlan> steered = draws.stream().map(each -> each.scaled(dose)).toList();
        arms.add(new Arm(Kind.RANDOM, plan.name(), dose, steered, null));
      }
    }
    return arms;
  }

  private Report report() {
    boolean halved = tried.isHalved();
    Map<String, Double> chosen = new LinkedHashMap<>();
    for (SteeringPlan plan : tried.plans) {
      chosen.put(plan.name(), halved ? choose(plan.name()) : tried.doses.getFirst());
    }
    List<Row> rows = new ArrayList<>();
    for (Arm arm : readings.keySet()) {
      boolean isChosen =
          halved
              && (arm.kind() == Kind.PLAN || arm.kind() == Kind.RANDOM)
              && chosen.get(arm.plan()) == arm.dose();
      rows.add(row(arm, halved ? 1 : -1, isChosen));
    }
    return new Report(tried, rows);
  }

  /** The dose that is best on the first half; NaN if no answer there has a score to tell by. */
  private double choose(String plan) {
    Arm none = readings.keySet().iterator().next();
    Row unsteered = row(none, 0, false);
    double best = Double.NaN;
    double most = -1;
    for (double dose : byStrength()) {
      Row row = row(arm(plan, dose), 0, false);
      boolean scored =
          row.scores.stream()
              .anyMatch(s -> s.task.measures() == Measures.BEHAVIOUR && s.score.n() > 0);
      if (scored && worth(row, unsteered) > most) {
        most = worth(row, unsteered);
        best = dose;
      }
    }
    return best;
  }

  private List<Double> byStrength() {
    return tried.doses.stream().sorted(Comparator.comparingDouble(Math::abs)).toList();
  }

  private Arm arm(String plan, double dose) {
    return readings.keySet().stream()
        .filter(arm -> arm.kind() == Kind.PLAN && arm.plan().equals(plan) && arm.dose() == dose)
        .findFirst()
        .orElseThrow();
  }

  private static double worth(Row row, Row unsteered) {
    double wanted = mean(row, unsteered, Measures.BEHAVIOUR);
    double kept = mean(row, unsteered, Measures.CAPABILITY);
    if (Double.isNaN(kept)) {
      double share = unsteered.perplexity.value() / row.perplexity.value();
      kept = Double.isNaN(share) ? 1 : Math.min(1, share);
    }
    return wanted + kept == 0 ? 0 : 2 * wanted * kept / (wanted + kept);
  }

  private static double mean(Row row, Row unsteered, Measures measures) {
    return IntStream.range(0, row.scores.size())
        .filter(i -> row.scores.get(i).task.measures() == measures)
        .mapToDouble(
            i -> {
              Task task = row.scores.get(i).task;
              double steered = row.scores.get(i).score.value();
              return measures == Measures.BEHAVIOUR
                  ? Double.isNaN(steered) ? 0 : task.wanted(steered)
                  : task.kept(unsteered.scores.get(i).score.value(), steered);
            })
        .average()
        .orElse(Double.NaN);
  }

  /** An arm's figures over the items of one half, or all if {@code half} is -1. */
  private Row row(Arm arm, int half, boolean chosen) {
    List<Reading> some = some(arm, half);
    List<Reading> none = some(readings.keySet().iterator().next(), half);
    List<Scored> scores = new ArrayList<>();
    for (Task task : tried.tasks) {
      scores.add(scored(task, of(task, some), of(task, none), arm.draws().size()));
    }
    List<Reading> answers = some.stream().filter(each -> each.task().isGenerated()).toList();
    List<Reading> comparable =
        some.stream().filter(each -> !(each.task().score() instanceof Score.Texts)).toList();
    return new Row(
        arm,
        chosen,
        scores,
        mean(answers, arm, Reading::entropy),
        IntStream.rangeClosed(1, 3).mapToObj(n -> mean(answers, arm, r -> r.distinct(n))).toList(),
        perplexity(answers),
        mean(some, arm, Reading::distance),
        (int) comparable.stream().filter(Reading::isSame).count(),
        comparable.size());
  }

  private List<Reading> some(Arm arm, int half) {
    return readings.get(arm).stream().filter(each -> half < 0 || each.index() % 2 == half).toList();
  }

  private static List<Reading> of(Task task, List<Reading> readings) {
    return readings.stream().filter(each -> each.task().equals(task)).toList();
  }

  private Scored scored(Task task, List<Reading> some, List<Reading> none, int draws) {
    if (task.score() instanceof Score.Texts) {
      return new Scored(task, perplexity(some), Interval.NONE, 0);
    }
    double[] steered = overDraws(some, draws, Reading::score);
    double[] unsteered = overDraws(none, 1, Reading::score);
    double[] differences =
        IntStream.range(0, steered.length).mapToDouble(i -> steered[i] - unsteered[i]).toArray();
    return new Scored(
        task,
        Interval.ofMean(steered, tried.seed),
        Interval.ofMean(differences, tried.seed),
        (int) some.stream().filter(each -> Double.isNaN(each.score())).count());
  }

  private Interval perplexity(List<Reading> some) {
    Map<Task.Item, double[]> byItem = new LinkedHashMap<>(); // an item's draws belong together
    for (Reading each : some) {
      if (each.surprised > 0) {
        double[] sums = byItem.computeIfAbsent(each.item(), item -> new double[2]);
        sums[0] += each.surprise;
        sums[1] += each.surprised;
      }
    }
    return Interval.ofRatio(
        byItem.values().stream().mapToDouble(sums -> sums[0]).toArray(),
        byItem.values().stream().mapToDouble(sums -> sums[1]).toArray(),
        Math::exp,
        tried.seed);
  }

  private Interval mean(List<Reading> some, Arm arm, ToDoubleFunction<Reading> figure) {
    return Interval.ofMean(overDraws(some, arm.draws().size(), figure), tried.seed);
  }

  /** Of each item, the mean over draws, which stand side by side; NaN if one has none. */
  private static double[] overDraws(
      List<Reading> some, int draws, ToDoubleFunction<Reading> figure) {
    double[] means = new double[some.size() / draws];
    for (int i = 0; i < some.size(); i++) {
      means[i / draws] += figure.applyAsDouble(some.get(i)) / draws;
    }
    return means;
  }
}
