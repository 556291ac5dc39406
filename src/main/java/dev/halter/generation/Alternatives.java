package dev.halter.generation;

import java.util.List;

/**
 * What the model gave other tokens at the place of one, as {@link LogProbabilities} asked.
 *
 * @param likeliest the likeliest tokens, likeliest first, of equals the lower id; the token itself
 *     is one of them if it is as likely
 * @param named the tokens that were named, in the order in which they were
 */
public record Alternatives(List<Candidate> likeliest, List<Candidate> named) {
  /** Where none were asked for. */
  public static final Alternatives NONE = new Alternatives(List.of(), List.of());

  /**
   * A token and what the model gives it.
   *
   * @param logProbability natural log
   */
  public record Candidate(int token, float logProbability) {}
}
