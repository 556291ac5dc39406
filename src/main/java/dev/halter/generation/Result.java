package dev.halter.generation;

import dev.halter.steering.SteeringReport;

/**
 * What became of a request.
 *
 * @param request it
 * @param tokens generated, without the stop token
 * @param logProbabilities of these tokens under the (steered) model, natural log
 * @param finish why it ended; null if it failed
 * @param report what steering did
 * @param failure why the request could not be served, else null; it cost no other request anything
 */
public record Result(
    Request request,
    int[] tokens,
    float[] logProbabilities,
    Finish finish,
    SteeringReport report,
    RuntimeException failure) {

  /** Why a generation ended. */
  public enum Finish {
    /** A stop token. */
    STOP,
    /** The token limit, its own or the model's context. */
    LENGTH,
    /** {@link Generation#cancel}, or an {@link AsyncEngine} that was closed before its end. */
    CANCELLED,
    /** The time it was given is up. */
    DEADLINE
  }

  /** Of a request that ended before it was begun. */
  static Result unbegun(Request request, Finish finish) {
    return new Result(request, new int[0], new float[0], finish, SteeringReport.NONE, null);
  }

  static Result failed(Request request, RuntimeException failure) {
    return new Result(request, new int[0], new float[0], null, SteeringReport.NONE, failure);
  }

  /** This result, or its failure thrown. */
  public Result orThrow() {
    if (failure != null) {
      throw failure;
    }
    return this;
  }
}
