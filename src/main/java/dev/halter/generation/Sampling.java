package dev.halter.generation;

import java.nio.charset.StandardCharsets;

/**
 * How the next token is chosen.
 *
 * @param temperature divides the logits; 0 = greedy, lowest token id on ties
 * @param topK keep the k most likely tokens; 0 = all
 * @param topP keep the smallest set of most likely tokens that reaches this probability; 1 = all
 * @param seed of this request's draws; a request with its seed gives the same text in any batch
 */
public record Sampling(float temperature, int topK, float topP, long seed) {
  /** The likeliest token, always. */
  public static final Sampling GREEDY = new Sampling(0, 0, 1, 0);

  public Sampling {
    if (!(temperature >= 0) || Float.isInfinite(temperature)) {
      throw new IllegalArgumentException("temperature is " + temperature + ", must be 0 or more");
    }
    if (topK < 0) {
      throw new IllegalArgumentException("top_k is " + topK + ", must be 0 (all) or more");
    }
    if (!(topP > 0 && topP <= 1)) {
      throw new IllegalArgumentException("top_p is " + topP + ", must be above 0 and at most 1");
    }
  }

  /**
   * The same choice by a stream of draws of its own, which the seed and an id decide: equal prompts
   * of a batch are to get different texts, and each the same in another run.
   */
  public Sampling forId(String id) {
    long hash = key(0);
    for (byte part : id.getBytes(StandardCharsets.UTF_8)) {
      hash = (hash ^ part) * 0x100000001b3L; // FNV-1a
    }
    return new Sampling(temperature, topK, topP, hash);
  }

  /** The random key of the draw of token number {@code index}: splitmix64 of seed and index. */
  long key(int index) {
    long z = seed * 0x9e3779b97f4a7c15L + index + 1;
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }
}
