package dev.halter.generation;

import java.util.List;

/**
 * Which log-probabilities a request's result tells beside those of the generated tokens, which it
 * tells always. All are natural logs of probabilities under the (steered) model at temperature 1,
 * before penalties, bias and cuts (vLLM's {@code raw_logprobs}), and all at one place come of one
 * computation: a greedy token's is, as a float, the largest of its place.
 *
 * @param top likeliest tokens at the place of each generated token, 0 to {@link #MOST}
 * @param prompt likeliest tokens at the place of each token of the prompt, 0 to {@link #MOST}, and
 *     these tokens themselves; -1 for nothing of the prompt. Such a prompt is read whole: it takes
 *     no beginning from others.
 * @param tokens told at each of these places beside the likeliest, at most {@link #MOST}
 */
public record LogProbabilities(int top, int prompt, List<Integer> tokens) {
  /** Most likeliest tokens of a place, and most named ones. */
  public static final int MOST = 1000;

  /** None but those of the generated tokens. */
  public static final LogProbabilities NONE = new LogProbabilities(0, -1, List.of());

  public LogProbabilities {
    if (top < 0 || top > MOST) {
      throw new IllegalArgumentException("logprobs is " + top + ", must be 0 to " + MOST);
    }
    if (prompt < -1 || prompt > MOST) {
      throw new IllegalArgumentException(
          "prompt_logprobs is " + prompt + ", must be 0 to " + MOST + ", or -1 for none");
    }
    tokens = List.copyOf(tokens);
    if (tokens.size() > MOST) {
      throw new IllegalArgumentException(
          "logprob_token_ids has " + tokens.size() + " tokens, at most " + MOST + " can be told");
    }
  }

  /** Of so many likeliest tokens at the place of each generated one. */
  public static LogProbabilities top(int count) {
    return NONE.withTop(count);
  }

  /** Of these tokens at the place of each generated one. */
  public static LogProbabilities of(Integer... tokens) {
    return NONE.withTokens(List.of(tokens));
  }

  /** The same with another number of likeliest tokens. */
  public LogProbabilities withTop(int count) {
    return new LogProbabilities(count, prompt, tokens);
  }

  /** The same with the prompt's tokens told, and so many likeliest at their places; -1 for none. */
  public LogProbabilities withPrompt(int count) {
    return new LogProbabilities(top, count, tokens);
  }

  /** The same with other named tokens. */
  public LogProbabilities withTokens(List<Integer> ids) {
    return new LogProbabilities(top, prompt, ids);
  }

  boolean wantsPrompt() {
    return prompt >= 0;
  }
}
