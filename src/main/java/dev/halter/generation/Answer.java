package dev.halter.generation;

import dev.halter.steering.SteeringReport;

/**
 * What a model answered.
 *
 * @param text without special tokens and without the token that ended it
 * @param result tokens, log probabilities and why it ended
 */
public record Answer(String text, Result result) {
  /** What steering really did: for each intervention the tokens edited and by how much. */
  public SteeringReport report() {
    return result.report();
  }

  /** The text. */
  @Override
  public String toString() {
    return text;
  }
}
