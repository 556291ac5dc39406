package dev.halter.generation;

import dev.halter.model.Capture;
import dev.halter.steering.SteeringPlan;
import java.util.Objects;
import java.util.Set;
import java.util.function.Consumer;

/**
 * One prompt and what to do with it. Begin with {@link #of} and change what should be otherwise:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="request"}
 *
 * @param id echoed in the result
 * @param prompt token ids, at least one
 * @param maxTokens most tokens to generate; 0 only reads the prompt
 * @param minTokens before so many no stop token can be chosen; 0 for at any time
 * @param stopTokens ids that end the generation; the one that does is not among the result's
 *     tokens. With none it goes on to {@code maxTokens}, whatever is said
 * @param plan how to steer; {@link SteeringPlan#NONE} for not at all
 * @param capture which activations to read, or null
 * @param logProbabilities which the result tells beside those of its tokens
 * @param cacheSalt what the prompt has in common with those of other requests is shared with those
 *     of the same salt alone, so that nobody else can tell by the time it takes that it was read
 *     before; null shares with all that have none
 * @param listener hears of each generated token at once, or null
 */
public record Request(
    String id,
    int[] prompt,
    int maxTokens,
    int minTokens,
    Sampling sampling,
    Set<Integer> stopTokens,
    SteeringPlan plan,
    Capture capture,
    LogProbabilities logProbabilities,
    String cacheSalt,
    Listener listener) {
  /** Most tokens to generate where nothing else is said. */
  public static final int MAX_TOKENS = 256;

  public Request {
    Objects.requireNonNull(prompt, "prompt");
    Objects.requireNonNull(sampling, "sampling");
    Objects.requireNonNull(stopTokens, "stopTokens");
    Objects.requireNonNull(plan, "plan");
    Objects.requireNonNull(logProbabilities, "logProbabilities");
  }

  /**
   * Hears of generated tokens, the stop token included, in the thread that runs the engine and
   * between two of its steps; it must not call the model. If it throws, its request fails with
   * that.
   */
  public interface Listener {
    /** A token was chosen. */
    void token(Generation.Token token);
  }

  /**
   * A greedy request of up to {@link #MAX_TOKENS} tokens, without steering and without a stop
   * token; {@link LanguageModel#request} gives one with those of the model.
   */
  public static Request of(int[] prompt) {
    return new Request(
        "request",
        prompt,
        MAX_TOKENS,
        0,
        Sampling.GREEDY,
        Set.of(),
        SteeringPlan.NONE,
        null,
        LogProbabilities.NONE,
        null,
        null);
  }

  /** The same under another id. */
  public Request withId(String newId) {
    return but(draft -> draft.id = newId);
  }

  /** The same with another limit; 0 only reads the prompt. */
  public Request withMaxTokens(int count) {
    return but(draft -> draft.maxTokens = count);
  }

  /** The same with no stop token before so many tokens. */
  public Request withMinTokens(int count) {
    return but(draft -> draft.minTokens = count);
  }

  /** The same with other tokens that end it; none to ignore the end that the model gives. */
  public Request withStopTokens(Set<Integer> tokens) {
    return but(draft -> draft.stopTokens = tokens);
  }

  /** The same with no end before so many tokens, and none before its limit if it ignores those. */
  public Request withEnding(int count, boolean ignoreEos) {
    Request least = withMinTokens(count);
    return ignoreEos ? least.withStopTokens(Set.of()) : least;
  }

  /** The same with another choice of tokens. */
  public Request with(Sampling newSampling) {
    return but(draft -> draft.sampling = newSampling);
  }

  /** The same, steered by this plan. */
  public Request with(SteeringPlan newPlan) {
    return but(draft -> draft.plan = newPlan);
  }

  /** The same, with activations read; the capture must be for the prompt's length. */
  public Request with(Capture newCapture) {
    return but(draft -> draft.capture = newCapture);
  }

  /** The same with other log-probabilities told. */
  public Request with(LogProbabilities wanted) {
    return but(draft -> draft.logProbabilities = wanted);
  }

  /** The same that shares beginnings with requests of this salt alone; null for those of none. */
  public Request withCacheSalt(String salt) {
    return but(draft -> draft.cacheSalt = salt);
  }

  /** The same with somebody who hears of each token; null for nobody. */
  public Request with(Listener newListener) {
    return but(draft -> draft.listener = newListener);
  }

  private Request but(Consumer<Draft> change) {
    Draft draft = new Draft(this);
    change.accept(draft);
    return draft.request();
  }

  /** A request that is being changed. */
  private static final class Draft {
    private String id;
    private final int[] prompt;
    private int maxTokens;
    private int minTokens;
    private Sampling sampling;
    private Set<Integer> stopTokens;
    private SteeringPlan plan;
    private Capture capture;
    private LogProbabilities logProbabilities;
    private String cacheSalt;
    private Listener listener;

    Draft(Request from) {
      id = from.id;
      prompt = from.prompt;
      maxTokens = from.maxTokens;
      minTokens = from.minTokens;
      sampling = from.sampling;
      stopTokens = from.stopTokens;
      plan = from.plan;
      capture = from.capture;
      logProbabilities = from.logProbabilities;
      cacheSalt = from.cacheSalt;
      listener = from.listener;
    }

    Request request() {
      return new Request(
          id,
          prompt,
          maxTokens,
          minTokens,
          sampling,
          stopTokens,
          plan,
          capture,
          logProbabilities,
          cacheSalt,
          listener);
    }
  }
}
