package dev.halter.cli;

import static dev.halter.files.Json.object;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Result;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A result as {@code generate --json} prints it and {@code batch} writes it. */
final class ResultJson {
  private ResultJson() {}

  /**
   * With the result's text, or null for a model that has no tokenizer.
   *
   * @param logProbabilities whether they are told
   */
  static Map<String, Object> of(Result result, String text, boolean logProbabilities) {
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
    return document;
  }

  private static List<Map<String, Object>> logProbabilities(Result result) {
    List<Map<String, Object>> tokens = new ArrayList<>();
    for (int i = 0; i < result.tokens().length; i++) {
      Map<String, Object> token =
          object("token", result.tokens()[i], "logprob", result.logProbabilities()[i]);
      if (!result.alternatives().isEmpty()) {
        token.put("top", candidates(result.alternatives().get(i).likeliest()));
      }
      tokens.add(token);
    }
    return tokens;
  }

  private static List<Map<String, Object>> candidates(List<Alternatives.Candidate> candidates) {
    return candidates.stream()
        .map(each -> object("token", each.token(), "logprob", each.logProbability()))
        .toList();
  }
}
