package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.Request;
import dev.halter.scoring.Logits;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * What a model thought of the tokens that it chose, and of the likeliest others: natural logs of
 * probabilities under the (steered) model, at temperature 1.
 */
final class LogProbabilities implements Request.Listener {
  /** Most alternatives that can be asked for. */
  static final int MOST = 1000;

  private final int top;
  private final List<Map<String, Object>> tokens = new ArrayList<>();

  /** Keeps the {@code top} likeliest tokens of each step; 0 = the chosen one alone. */
  LogProbabilities(int top) {
    this.top = top;
  }

  @Override
  public void token(int token, float logProbability, Supplier<float[]> logits) {
    Map<String, Object> entry = Json.object("token", token, "logprob", logProbability);
    if (top > 0) {
      entry.put("top", likeliest(logits.get()));
    }
    tokens.add(entry);
  }

  private List<Map<String, Object>> likeliest(float[] logits) {
    return Logits.likeliest(logits, top).stream()
        .map(each -> Json.object("token", each.token(), "logprob", (float) each.logProbability()))
        .toList();
  }

  /** Of the first {@code count} tokens: a stop token is heard, but no part of a result. */
  List<Map<String, Object>> of(int count) {
    return tokens.subList(0, count);
  }
}
