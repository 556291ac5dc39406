package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Generation;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Answers of {@code /v1/chat/completions}.
 *
 * @param tellsLogProbabilities whether tokens are told with their log-probabilities
 */
record ChatFormat(boolean tellsLogProbabilities) implements AnswerFormat {
  @Override
  public String kind() {
    return "chat.completion";
  }

  @Override
  public String chunkKind() {
    return "chat.completion.chunk";
  }

  @Override
  public Map<String, Object> opening(Choice choice) {
    return object(
        "index",
        choice.index(),
        "delta",
        object("role", "assistant", "content", ""),
        "logprobs",
        null,
        "finish_reason",
        null);
  }

  @Override
  public Map<String, Object> part(Choice choice, Choice.Piece piece) {
    Map<String, Object> part =
        object(
            "index", choice.index(),
            "delta", piece.text().isEmpty() ? object() : object("content", piece.text()),
            "logprobs", logProbabilities(choice, piece.tokens()),
            "finish_reason", piece.finishReason());
    if (piece.finishReason() != null) {
      part.put("stop_reason", piece.stopReason());
    }
    return part;
  }

  @Override
  public Map<String, Object> whole(Choice choice, Choice.Outcome outcome) {
    Choice.Piece answer = outcome.answer();
    return object(
        "index", choice.index(),
        "message", object("role", "assistant", "content", answer.text(), "refusal", null),
        "logprobs", logProbabilities(choice, answer.tokens()),
        "finish_reason", answer.finishReason(),
        "stop_reason", answer.stopReason());
  }

  private Map<String, Object> logProbabilities(Choice choice, List<Generation.Token> tokens) {
    if (!tellsLogProbabilities) {
      return null;
    }
    List<Object> content = new ArrayList<>();
    for (Generation.Token token : tokens) {
      Map<String, Object> entry = entry(choice, token.id(), token.logProbability());
      List<Object> likeliest = new ArrayList<>();
      for (Alternatives.Candidate candidate : Choice.candidates(token)) {
        likeliest.add(entry(choice, candidate.token(), candidate.logProbability()));
      }
      entry.put("top_logprobs", likeliest);
      content.add(entry);
    }
    return object("content", content, "refusal", null);
  }

  private static Map<String, Object> entry(Choice choice, int token, float logProbability) {
    byte[] bytes = choice.tokenizer().bytes(token);
    List<Integer> values = bytes == null ? null : new ArrayList<>();
    for (int i = 0; bytes != null && i < bytes.length; i++) {
      values.add(bytes[i] & 0xff);
    }
    return object(
        "token", choice.name(token),
        "logprob", Choice.finite(logProbability),
        "bytes", values);
  }
}
