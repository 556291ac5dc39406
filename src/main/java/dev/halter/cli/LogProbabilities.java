package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.Request;
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
    double most = Double.NEGATIVE_INFINITY;
    for (float logit : logits) {
      most = Math.max(most, logit);
    }
    double sum = 0;
    for (float logit : logits) {
      sum += Math.exp(logit - most);
    }
    double logSum = most + Math.log(sum);
    int[] best = new int[Math.min(top, logits.length)]; // likeliest first, of equals the lower id
    int kept = 0;
    for (int id = 0; id < logits.length; id++) {
      int at = kept;
      while (at > 0 && logits[id] > logits[best[at - 1]]) {
        at--;
      }
      if (at < best.length) {
        kept = Math.min(kept + 1, best.length);
        System.arraycopy(best, at, best, at + 1, kept - at - 1);
        best[at] = id;
      }
    }
    List<Map<String, Object>> entries = new ArrayList<>();
    for (int id : best) {
      entries.add(Json.object("token", id, "logprob", (float) (logits[id] - logSum)));
    }
    return entries;
  }

  /** Of the first {@code count} tokens: a stop token is heard, but no part of a result. */
  List<Map<String, Object>> of(int count) {
    return tokens.subList(0, count);
  }
}
