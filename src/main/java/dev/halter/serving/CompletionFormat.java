package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Generation;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Answers of {@code /v1/completions}.
 *
 * @param echoes whether the prompt is repeated before its answer
 * @param tellsLogProbabilities whether tokens are told with their log-probabilities
 */
record CompletionFormat(boolean echoes, boolean tellsLogProbabilities) implements AnswerFormat {
  @Override
  public String kind() {
    return "text_completion";
  }

  @Override
  public String chunkKind() {
    return "text_completion";
  }

  @Override
  public Map<String, Object> opening(Choice choice) {
    return echoes ? choice(choice, choice.prompt(), null, null, null) : null;
  }

  @Override
  public Map<String, Object> part(Choice choice, Choice.Piece piece) {
    Map<String, Object> logprobs =
        tellsLogProbabilities ? logProbabilities(choice, piece.tokens()) : null;
    return choice(choice, piece.text(), logprobs, piece.finishReason(), piece.stopReason());
  }

  @Override
  public Map<String, Object> whole(Choice choice, Choice.Outcome outcome) {
    Choice.Piece answer = outcome.answer();
    List<Generation.Token> tokens = new ArrayList<>();
    if (echoes) {
      tokens.addAll(outcome.prompt());
    }
    tokens.addAll(answer.tokens());
    return choice(
        choice,
        echoes ? choice.prompt() + answer.text() : answer.text(),
        tellsLogProbabilities ? logProbabilities(choice, tokens) : null,
        answer.finishReason(),
        answer.stopReason());
  }

  private static Map<String, Object> choice(
      Choice choice,
      String text,
      Map<String, Object> logprobs,
      String finishReason,
      Object stopReason) {
    return object(
        "index", choice.index(),
        "text", text,
        "logprobs", logprobs,
        "finish_reason", finishReason,
        "stop_reason", stopReason);
  }

  /** Lists of as many entries as there are tokens. */
  private static Map<String, Object> logProbabilities(
      Choice choice, List<Generation.Token> tokens) {
    List<Object> names = new ArrayList<>();
    List<Object> chosen = new ArrayList<>();
    List<Object> likeliest = new ArrayList<>();
    List<Object> offsets = new ArrayList<>();
    int offset = 0;
    for (Generation.Token token : tokens) {
      String name = choice.name(token.id());
      names.add(name);
      offsets.add(offset);
      offset += name.length();
      if (Float.isNaN(token.logProbability())) { // nothing stands before it
        chosen.add(null);
        likeliest.add(null);
        continue;
      }
      chosen.add(Choice.finite(token.logProbability()));
      Map<String, Object> top = new LinkedHashMap<>();
      for (Alternatives.Candidate candidate : Choice.candidates(token)) {
        top.put(choice.name(candidate.token()), Choice.finite(candidate.logProbability()));
      }
      top.put(name, Choice.finite(token.logProbability()));
      likeliest.add(top);
    }
    return object(
        "tokens", names,
        "token_logprobs", chosen,
        "top_logprobs", likeliest,
        "text_offset", offsets);
  }
}
