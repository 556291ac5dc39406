package dev.halter.evaluation;

import dev.halter.steering.SteeringPlan;
import java.util.List;

/**
 * A way to run the model, of those that an evaluation compares.
 *
 * @param plan the plan's name; of {@link Kind#PROMPTING} what the model is told
 * @param dose strength of the plan; NaN where there is none
 * @param draws how the model is steered: once, or as often as random plans are drawn
 * @param prompting what the model is told before each item; null for nothing
 */
public record Arm(Kind kind, String plan, double dose, List<SteeringPlan> draws, String prompting) {

  /** What is compared. */
  public enum Kind {
    NONE,
    PROMPTING,
    PLAN,
    /** Edits of the same size of something drawn at random, in the plan's stead. */
    RANDOM
  }
}
