package dev.halter.generation;

import dev.halter.steering.SteeringReport;
import java.util.List;

/**
 * What became of a request.
 *
 * @param request it
 * @param tokens generated, without the stop token
 * @param logProbabilities of these tokens under the (steered) model, natural log
 * @param alternatives at the place of each of these tokens, if the request asks for any, else empty
 * @param stop the stop token that ended it, with what the model gave it; null if none did
 * @param prompt the tokens of the prompt, with what the model gave each where it stands, if the
 *     request asks for that, else empty; the first has nothing before it and so NaN
 * @param finish why it ended; null if it failed
 * @param report what steering did
 * @param failure why the request could not be served, else null; it cost no other request anything
 */
public record Result(
    Request request,
    int[] tokens,
    float[] logProbabilities,
    List<Alternatives> alternatives,
    Generation.Token stop,
    List<Generation.Token> prompt,
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
    return empty(request, finish, null);
  }

  static Result failed(Request request, RuntimeException failure) {
    return empty(request, null, failure);
  }

  private static Result empty(Request request, Finish finish, RuntimeException failure) {
    return new Result(
        request,
        new int[0],
        new float[0],
        List.of(),
        null,
        List.of(),
        finish,
        SteeringReport.NONE,
        failure);
  }

  /** This result, or its failure thrown. */
  public Result orThrow() {
    if (failure != null) {
      throw failure;
    }
    return this;
  }
}
