package dev.halter.evaluation;

import dev.halter.evaluation.ControlTask.Prompt;
import dev.halter.generation.Engine;
import dev.halter.scoring.Question;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/** Shares of wanted answers under plans. */
final class ControlScores {
  private final Engine engine;

  ControlScores(Engine engine) {
    this.engine = engine;
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

  /** The plan that is best by {@link #trained}. */
  SteeringPlan best(List<ControlTask> tasks, List<SteeringPlan> plans) {
    return plans.get(largest(trained(tasks, plans)));
  }

  /** The first of the largest: settings are tried from the mildest on. */
  static int largest(double[] scores) {
    int largest = 0;
    for (int i = 1; i < scores.length; i++) {
      largest = scores[i] > scores[largest] ? i : largest;
    }
    return largest;
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
