package dev.halter.generation;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;

/**
 * How the next token is chosen. Begin with {@link #GREEDY} and change what should be otherwise:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="sampling"}
 *
 * <p>The logits are changed and cut in vLLM's order, whatever is set: allowed tokens, stop tokens
 * that would come too early ({@link Request#minTokens}), bias, repetition, frequency and presence
 * penalty; then temperature, min_p, top_k, top_p, and a draw from what is left. Log-probabilities
 * are those of the model, before all of these.
 *
 * @param temperature divides the logits; 0 = greedy, lowest token id on ties
 * @param topK keep the k most likely tokens; 0 = all
 * @param topP keep the smallest set of most likely tokens that reaches this probability; 1 = all
 * @param minP keep the tokens of at least this share of the likeliest token's probability; 0 = all
 * @param repetitionPenalty as transformers and vLLM have it (Keskar et al., arXiv 1909.05858,
 *     section 4.1): the logits of all tokens of prompt and generation are divided by it where they
 *     are positive and else multiplied; 1 = none, above 1 makes repetition less likely
 * @param presencePenalty as OpenAI has it: taken from the logit of each token that was generated; 0
 *     = none
 * @param frequencyPenalty as OpenAI has it: taken from a token's logit as often as it was
 *     generated; 0 = none
 * @param logitBias added to these tokens' logits; -infinity forbids one
 * @param allowedTokens no other is ever chosen; empty = all
 * @param seed of this request's draws; a request with its seed gives the same text in any batch
 */
public record Sampling(
    float temperature,
    int topK,
    float topP,
    float minP,
    float repetitionPenalty,
    float presencePenalty,
    float frequencyPenalty,
    Map<Integer, Float> logitBias,
    Set<Integer> allowedTokens,
    long seed) {
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
    if (!(minP >= 0 && minP <= 1)) {
      throw new IllegalArgumentException("min_p is " + minP + ", must be 0 (all) to 1");
    }
    if (!(repetitionPenalty > 0) || Float.isInfinite(repetitionPenalty)) {
      throw new IllegalArgumentException(
          "repetition_penalty is " + repetitionPenalty + ", must be above 0 (1 = none)");
    }
    requireFinite("presence_penalty", presencePenalty);
    requireFinite("frequency_penalty", frequencyPenalty);
    logitBias = Map.copyOf(logitBias);
    logitBias.forEach(
        (token, bias) -> {
          if (!(bias < Float.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException(
                "logit_bias of token " + token + " is " + bias + ", must be a number or -infinity");
          }
        });
    allowedTokens = Set.copyOf(allowedTokens);
  }

  private static void requireFinite(String name, float value) {
    if (!Float.isFinite(value)) {
      throw new IllegalArgumentException(name + " is " + value + ", must be a number (0 = none)");
    }
  }

  /** A choice with these settings and no others: neither penalties nor bias. */
  public Sampling(float temperature, int topK, float topP, long seed) {
    this(temperature, topK, topP, 0, 1, 0, 0, Map.of(), Set.of(), seed);
  }

  /** The same at another temperature; 0 = greedy. */
  public Sampling withTemperature(float value) {
    return with(value, topK, topP, minP, logitBias, allowedTokens, seed);
  }

  /** The same among the k most likely tokens; 0 = all. */
  public Sampling withTopK(int k) {
    return with(temperature, k, topP, minP, logitBias, allowedTokens, seed);
  }

  /** The same among the most likely tokens that reach this probability; 1 = all. */
  public Sampling withTopP(float probability) {
    return with(temperature, topK, probability, minP, logitBias, allowedTokens, seed);
  }

  /** The same among tokens of at least this share of the likeliest one's probability; 0 = all. */
  public Sampling withMinP(float share) {
    return with(temperature, topK, topP, share, logitBias, allowedTokens, seed);
  }

  /** The same with other numbers added to logits; an empty map for none. */
  public Sampling withLogitBias(Map<Integer, Float> bias) {
    return with(temperature, topK, topP, minP, bias, allowedTokens, seed);
  }

  /** The same among these tokens alone; an empty set for all. */
  public Sampling withAllowedTokens(Set<Integer> tokens) {
    return with(temperature, topK, topP, minP, logitBias, tokens, seed);
  }

  /** The same with another stream of draws. */
  public Sampling withSeed(long newSeed) {
    return with(temperature, topK, topP, minP, logitBias, allowedTokens, newSeed);
  }

  private Sampling with(
      float newTemperature,
      int newTopK,
      float newTopP,
      float newMinP,
      Map<Integer, Float> newBias,
      Set<Integer> newAllowed,
      long newSeed) {
    return new Sampling(
        newTemperature,
        newTopK,
        newTopP,
        newMinP,
        repetitionPenalty,
        presencePenalty,
        frequencyPenalty,
        newBias,
        newAllowed,
        newSeed);
  }

  /** The same with another repetition penalty; 1 = none. */
  public Sampling withRepetitionPenalty(float penalty) {
    return withPenalties(penalty, presencePenalty, frequencyPenalty);
  }

  /** The same with another presence penalty; 0 = none. */
  public Sampling withPresencePenalty(float penalty) {
    return withPenalties(repetitionPenalty, penalty, frequencyPenalty);
  }

  /** The same with another frequency penalty; 0 = none. */
  public Sampling withFrequencyPenalty(float penalty) {
    return withPenalties(repetitionPenalty, presencePenalty, penalty);
  }

  private Sampling withPenalties(float repetition, float presence, float frequency) {
    return new Sampling(
        temperature,
        topK,
        topP,
        minP,
        repetition,
        presence,
        frequency,
        logitBias,
        allowedTokens,
        seed);
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
    return withSeed(hash);
  }

  /** Whether what was read and generated before changes the logits. */
  boolean isPenalised() {
    return repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0;
  }

  /** The random key of the draw of token number {@code index}: splitmix64 of seed and index. */
  long key(int index) {
    long z = seed * 0x9e3779b97f4a7c15L + index + 1;
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }
}
