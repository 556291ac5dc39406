package dev.halter.generation;

import java.time.Duration;
import java.util.List;

/**
 * What an {@link AsyncEngine} does and has done since it was opened, all of one moment.
 *
 * @param running requests in the batch
 * @param waiting requests that wait for room in it
 * @param completed requests that ended by themselves
 * @param cancelled requests that were cancelled, by {@link Generation#cancel} or by the close
 * @param expired requests whose time was up
 * @param failed requests that could not be served
 * @param rejected requests that were not taken, since too many waited
 * @param promptTokens tokens of prompts that the model has read
 * @param sharedTokens tokens of prompts that it had not to read, since other prompts begin with
 *     them
 * @param sharedLayers blocks that it had not to run for tokens that it read, since their plans act
 *     above and others had run them: of each token those that it began behind
 * @param generatedTokens tokens chosen, stop tokens included
 * @param steps of the batch that were run
 * @param fullSteps those in which no other request had room
 * @param pagesUsed pages of the KV cache that running requests hold
 * @param pages pages of the KV cache
 * @param queueTime from the submission of a request until it joins the batch
 * @param timeToFirstToken from the submission of a request until its first token
 * @param interTokenTime from a token of a request until its next one
 */
public record EngineMetrics(
    int running,
    int waiting,
    long completed,
    long cancelled,
    long expired,
    long failed,
    long rejected,
    long promptTokens,
    long sharedTokens,
    long sharedLayers,
    long generatedTokens,
    long steps,
    long fullSteps,
    int pagesUsed,
    int pages,
    Times queueTime,
    Times timeToFirstToken,
    Times interTokenTime) {

  /**
   * How long something took, each time: a histogram.
   *
   * @param counts of times up to the bound at the same place of {@link #BOUNDS} and above the one
   *     before; one more at the end, of longer ones
   * @param total of all times
   */
  public record Times(List<Long> counts, Duration total) {
    /** Upper bounds in seconds: those of vLLM's {@code time_to_first_token_seconds}. */
    public static final List<Double> BOUNDS =
        List.of(
            0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
            10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0);

    public Times {
      counts = List.copyOf(counts);
    }

    /** How many times. */
    public long count() {
      return counts.stream().mapToLong(Long::longValue).sum();
    }

    /** Their mean; zero where there are none. */
    public Duration mean() {
      return count() == 0 ? Duration.ZERO : total.dividedBy(count());
    }
  }
}
