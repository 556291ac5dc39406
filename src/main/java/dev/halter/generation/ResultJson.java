package dev.halter.generation;

import static dev.halter.files.Json.object;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A result as {@code generate --json} prints it and {@code batch} writes it. */
public final class ResultJson {
  private ResultJson() {}

  /**
   * With the result's text, or null for a model that has no tokenizer.
   *
   * @param logProbabilities whether those of the answer's tokens are told
   */
  public static Map<String, Object> of(Result result, String text, boolean logProbabilities) {
    Map<String, Object> document =
        object(
            "text", text,
            "tokens", result.tokens(),
            "prompt_tokens", result.request().prompt().length,
            "finish_reason", result.finish().name().toLowerCase(Locale.ROOT),
            "steering_report", result.report().json());
    if (logProbabilities) {
      document.put("logprobs", logProbabilities(result));
    }
    if (!result.prompt().isEmpty()) {
      document.put("prompt_logprobs", ofPrompt(result.prompt()));
    }
    return document;
  }

  private static List<Map<String, Object>> logProbabilities(Result result) {
    List<Map<String, Object>> tokens = new ArrayList<>();
    for (int i = 0; i < result.tokens().length; i++) {
      Alternatives others =
          result.alternatives().isEmpty() ? Alternatives.NONE : result.alternatives().get(i);
      tokens.add(token(result.tokens()[i], result.logProbabilities()[i], others));
    }
    return tokens;
  }

  /** The first token has nothing before it that could make it likely. */
  private static List<Map<String, Object>> ofPrompt(List<Generation.Token> prompt) {
    List<Map<String, Object>> tokens = new ArrayList<>();
    tokens.add(null);
    for (Generation.Token each : prompt.subList(1, prompt.size())) {
      tokens.add(token(each.id(), each.logProbability(), each.alternatives()));
    }
    return tokens;
  }

  private static Map<String, Object> token(int id, float logProbability, Alternatives others) {
    Map<String, Object> token = object("token", id, "logprob", logProbability);
    if (!others.likeliest().isEmpty()) {
      token.put("top", candidates(others.likeliest()));
    }
    if (!others.named().isEmpty()) {
      token.put("named", candidates(others.named()));
    }
    return token;
  }

  private static List<Map<String, Object>> candidates(List<Alternatives.Candidate> candidates) {
    return candidates.stream()
        .map(each -> object("token", each.token(), "logprob", each.logProbability()))
        .toList();
  }
}
