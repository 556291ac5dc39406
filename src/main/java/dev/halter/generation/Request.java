package dev.halter.generation;

import dev.halter.model.Capture;
import dev.halter.steering.SteeringPlan;
import java.util.Set;
import java.util.function.Supplier;

/**
 * One prompt and what to do with it.
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

  /** Hears of generated tokens, the stop token included. */
  public interface Listener {
    /**
     * A token was chosen.
     *
     * @param logProbability natural log of its probability under the (steered) model
     * @param logits the row [vocabulary] that it was chosen from; read it now or never
     */
    void token(int token, float logProbability, Supplier<float[]> logits);
  }

  /** A greedy request without steering. */
  public static Request greedy(String id, int[] prompt, int maxTokens, Set<Integer> stopTokens) {
    return new Request(
        id, prompt, maxTokens, Sampling.GREEDY, stopTokens, SteeringPlan.NONE, null, null);
  }

  public Request with(SteeringPlan newPlan) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, newPlan, capture, listener);
  }

  public Request with(Capture newCapture) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, plan, newCapture, listener);
  }

  public Request with(Listener newListener) {
    return new Request(id, prompt, maxTokens, sampling, stopTokens, plan, capture, newListener);
  }
}
