package dev.halter.evaluation;

import dev.halter.evaluation.Judge.Ratings;
import dev.halter.scoring.Ngrams;
import dev.halter.steering.SteeringPlan;

/**
 * What an item gave in one arm of an evaluation, filled in stage by stage. Figures that do not
 * exist for it are NaN, texts null.
 */
public final class Reading {
  private final Task task;
  private final int item;
  private final Arm arm;
  private final int draw;
  final int[] prompt;
  final int[] plain; // the prompt without what the arm tells the model
  int[] answer = {};
  String text;
  double[] logProbabilities; // of the choices
  Ratings ratings;
  double score = Double.NaN;
  double surprise = Double.NaN;
  int surprised; // how many tokens the surprise is of
  double distance = Double.NaN;
  boolean same;

  Reading(Task task, int item, Arm arm, int draw, int[] prompt, int[] plain) {
    this.task = task;
    this.item = item;
    this.arm = arm;
    this.draw = draw;
    this.prompt = prompt;
    this.plain = plain;
  }

  public Task task() {
    return task;
  }

  /** Index of the item in its task. */
  int index() {
    return item;
  }

  public Task.Item item() {
    return task.items().get(item);
  }

  public Arm arm() {
    return arm;
  }

  /** Which of the arm's draws, from 0. */
  public int draw() {
    return draw;
  }

  SteeringPlan plan() {
    return arm.draws().get(draw);
  }

  /** The answer without the space around it; null where none is generated. */
  public String text() {
    return text;
  }

  /** By the task's own score; a perplexity of a text for itself. */
  public double score() {
    return task.score() instanceof Score.Texts ? Math.exp(surprise / surprised) : score;
  }

  /** Of each choice, the sum of its tokens'; null where there are none. */
  public double[] logProbabilities() {
    return logProbabilities;
  }

  /** A judge's {concept, instruction, fluency}; null where none was asked. */
  public double[] ratings() {
    return ratings == null
        ? null
        : new double[] {ratings.concept(), ratings.instruction(), ratings.fluency()};
  }

  /** Perplexity of the answer to the unsteered model, which is asked the item alone. */
  public double perplexity() {
    return text == null || surprised == 0 ? Double.NaN : Math.exp(surprise / surprised);
  }

  /** {@link Ngrams#weightedEntropy} of the answer. */
  public double entropy() {
    return text == null ? Double.NaN : Ngrams.of(text).weightedEntropy();
  }

  /** {@link Ngrams#distinct} of the answer. */
  public double distinct(int n) {
    return text == null ? Double.NaN : Ngrams.of(text).distinct(n);
  }

  /**
   * Mean KL in nats of the next-token distributions from those without a plan, along the item's
   * prompt's end and the answer without a plan.
   */
  public double distance() {
    return distance;
  }

  /** Whether the answer, or the choice, is the one without a plan. */
  public boolean isSame() {
    return same;
  }
}
