package dev.halter.generation;

import dev.halter.model.Capture;
import dev.halter.steering.SteeringPlan;
import java.util.Objects;
import java.util.Set;
import java.util.function.Supplier;

/**
 * One prompt and what to do with it. Begin with {@link #of} and change what should be otherwise:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="request"}
 *
 * @param id echoed in the result
 * @param prompt token ids, at least one
 * @param maxTokens most tokens to generate; 0 only reads the prompt
 * @param stopTokens ids that end the generation; the one that does is not part of the result
 * @param plan how to steer; {@link SteeringPlan#NONE} for not at all
 * @param capture which activations of the prompt to read, or null
 * @param listener hears of each generated token at once, or null
 */
public record Request(
    String id,
    int[] prompt,
    int maxTokens,
    Sampling sampling,
    Set<Integer> stopTokens,
    SteeringPlan plan,
    Capture capture,
    Listener listener) {
  /** Most tokens to generate where nothing else is said. */
  public static final int MAX_TOKENS = 256;

  public Request {
    Objects.requireNonNull(prompt, "prompt");
    Objects.requireNonNull(sampling, "sampling");
    Objects.requireNonNull(stopTokens, "stopTokens");
    Objects.requireNonNull(plan, "plan");
  }

  /**
   * Hears of generated tokens, the stop token included, in the thread that runs the engine and
   * between two of its steps; it must not call the model. If it throws, its request fails with
   * that.
   */
  public interface Listener {
    /**
     * A token was chosen.
     *
     * @param logProbability natural log of its probability under the (steered) model
     * @param logits the row [vocabulary] that it was chosen from; read it now or never
     */
    void token(int token, float logProbability, Supplier<float[]> logits);
  }

  /**
   * A greedy request of up to {@link #MAX_TOKENS} tokens, without steering and without a stop
   * token; {@link LanguageModel#request} gives one with those of the model.
   */
  public static Request of(int[] prompt) {
    return new Request(
        "request", prompt, MAX_TOKENS, Sampling.GREEDY, Set.of(), SteeringPlan.NONE, null, null);
  }

  /** The same under another id. */
  public Request withId(String newId) {
    return new Request(newId, prompt, maxTokens, sampling, stopTokens, plan, capture, listener);
  }

  /** The same with another limit; 0 only reads the prompt. */
  public Request withMaxTokens(int count) {
    return new Request(id, prompt, count, sampling, stopTokens, plan, capture, listener);
  }

  /** The same with other tokens that end it. */
  public Request withStopTokens(Set<Integer> tokens) {
    return new Request(id, prompt, maxTokens, sampling, tokens, plan, capture, listener);
  }

  /** The same with another choice of tokens. */
  public Request with(Sampling newSampling) {
    return new Request(id, prompt, maxTokens, newSampling, stopTokens, plan, capture, listener);
  }

  /** The same, steered by this plan. */
  public Request with(SteeringPlan newPlan) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, newPlan, capture, listener);
  }

  /** The same, with activations of the prompt read; the capture must be for its length. */
  public Request with(Capture newCapture) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, plan, newCapture, listener);
  }

  /** The same with somebody who hears of each token; null for nobody. */
  public Request with(Listener newListener) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, plan, capture, newListener);
  }
}
