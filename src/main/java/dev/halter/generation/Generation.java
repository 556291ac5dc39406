package dev.halter.generation;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * A request that an {@link AsyncEngine} has taken: its tokens as they come, and its result. All
 * methods may be called from any thread.
 */
public final class Generation {
  /**
   * A token and what the (steered) model gave it at its place.
   *
   * @param logProbability natural log of its probability, before sampling changes any: {@link
   *     LogProbabilities}
   * @param alternatives what it gave others, if the request asks for any
   */
  public record Token(int id, float logProbability, Alternatives alternatives) {}

  private final Request request;
  private final CompletableFuture<Result> result = new CompletableFuture<>();
  private final List<Token> tokens = new ArrayList<>();
  private volatile boolean isCancelled;

  Generation(Request request) {
    this.request = Objects.requireNonNull(request, "request");
  }

  /** What was asked for. */
  public Request request() {
    return request;
  }

  /**
   * The result, once it stands: of a request that was cancelled or whose time was up, what it had
   * by then. Fails if the request cannot be served, its listener throws or the device fails; the
   * reason is the cause of the {@link CompletionException} that {@code join} throws and {@code
   * handle} gets.
   *
   * <p>What hangs on it without {@code Async} in its name runs in the engine's thread and holds all
   * others up: let it be short, or wait in a thread of your own, for which a virtual one will do.
   * Completing or cancelling the future changes nothing but this copy.
   */
  public CompletableFuture<Result> result() {
    return result.copy();
  }

  /**
   * The tokens of the result, from the first on and in any call; the stream waits for each until it
   * is chosen, and ends with the request. However slowly it is read, the engine does not wait.
   *
   * <p>Where the result fails the stream throws what {@code result().join()} does, behind the
   * tokens that came before; to a thread that is interrupted while it waits an {@link
   * IllegalStateException}.
   */
  public Stream<Token> tokens() {
    return IntStream.iterate(0, this::comes, index -> index + 1).mapToObj(this::token);
  }

  /**
   * Ends the request, with what it has, before the engine's next step; a step that runs is not
   * stopped. Its pages and its place are free from then on. Nothing happens if it has ended.
   */
  public void cancel() {
    isCancelled = true;
  }

  boolean isCancelled() {
    return isCancelled;
  }

  /** Waits until there is a token of this index; false if there never will be. */
  private synchronized boolean comes(int index) {
    try {
      while (index >= tokens.size() && !result.isDone()) {
        wait();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while waiting for a token", e);
    }
    if (index < tokens.size()) {
      return true;
    }
    result.join();
    return false;
  }

  private synchronized Token token(int index) {
    return tokens.get(index);
  }

  synchronized void add(Token token) {
    tokens.add(token);
    notifyAll();
  }

  void end(Result ended) {
    if (ended.failure() != null) {
      fail(ended.failure());
    } else {
      result.complete(ended);
      wake();
    }
  }

  void fail(Throwable failure) {
    result.completeExceptionally(failure);
    wake();
  }

  private synchronized void wake() {
    notifyAll();
  }
}
