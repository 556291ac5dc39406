package dev.halter.evaluation;

import dev.halter.evaluation.ControlTask.Prompt;
import dev.halter.generation.Engine;
import dev.halter.scoring.Question;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;

/** Shares of wanted answers under plans, and which plan is best. */
final class ControlScores {
  /** Plans whose cost is looked at together. */
  private static final int TOGETHER = 8;

  /** Of differences of shares: 1 - 38/40 is more than 0.05. */
  private static final double ROUNDING = 1e-9;

  private final Engine engine;
  private final List<Question> spared;
  private final double cost;
  private final double sparedBefore;

  /**
   * @param spared questions that the best plan may cost little; none if it may cost anything
   * @param cost the most of their right answers, as a share, that it may cost
   */
  ControlScores(Engine engine, List<Question> spared, double cost) {
    this.engine = engine;
    this.spared = spared;
    this.cost = cost;
    this.sparedBefore = spared.isEmpty() ? 0 : right(spared, List.of(SteeringPlan.NONE))[0];
  }

  /**
   * A plan that is best on training prompts.
   *
   * @param index among those that were tried
   * @param sum of tasks' shares of wanted answers
   * @param cost what it costs of the spared questions, as a share; NaN if there are none
   */
  record Best(int index, double sum, double cost) {}

  /**
   * The best plan on tasks' training prompts among those that keep to the cost; where none does,
   * the one that costs least. Of equal ones the first: settings are tried from the mildest on.
   */
  Best best(List<ControlTask> tasks, List<SteeringPlan> plans) {
    double[] sums = trained(tasks, plans);
    int[] order =
        IntStream.range(0, sums.length)
            .boxed()
            .sorted(Comparator.comparingDouble((Integer i) -> -sums[i]))
            .mapToInt(i -> i)
            .toArray();
    if (spared.isEmpty()) {
      return new Best(order[0], sums[order[0]], Double.NaN);
    }
    Best least = null;
    for (int from = 0; from < order.length; from += TOGETHER) {
      int[] some = Arrays.copyOfRange(order, from, Math.min(from + TOGETHER, order.length));
      double[] right = right(spared, Arrays.stream(some).mapToObj(plans::get).toList());
      for (int i = 0; i < some.length; i++) {
        Best next = new Best(some[i], sums[some[i]], sparedBefore - right[i]);
        if (next.cost <= cost + ROUNDING) {
          return next;
        }
        least = least == null || next.cost < least.cost ? next : least;
      }
    }
    return least;
  }

  /** The sum of tasks' shares of wanted answers to their training prompts, under each plan. */
  double[] trained(List<ControlTask> tasks, List<SteeringPlan> plans) {
    double[] sums = new double[plans.size()];
    for (ControlTask task : tasks) {
      double[] shares = right(questions(task.train()), plans);
      Arrays.setAll(sums, i -> sums[i] + shares[i]);
    }
    return sums;
  }

  /** Share of wanted answers to a task's test prompts. */
  double tested(ControlTask task, SteeringPlan plan) {
    return right(questions(task.test()), List.of(plan))[0];
  }

  private static List<Question> questions(List<Prompt> prompts) {
    return prompts.stream().map(Prompt::question).toList();
  }

  /** Share of right answers under each plan. */
  double[] right(List<Question> questions, List<SteeringPlan> plans) {
    List<Question.Plans> ofQuestions = new ArrayList<>();
    plans.forEach(plan -> ofQuestions.add(question -> plan));
    boolean[][] right = Question.ask(engine, questions, ofQuestions, done -> {});
    return Arrays.stream(right)
        .mapToDouble(
            answers ->
                (double) IntStream.range(0, answers.length).filter(i -> answers[i]).count()
                    / answers.length)
        .toArray();
  }
}
