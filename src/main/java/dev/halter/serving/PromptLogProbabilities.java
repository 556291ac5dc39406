package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Generation;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What both interfaces tell of the prompt's tokens, in vLLM's shape. */
final class PromptLogProbabilities {
  private PromptLogProbabilities() {}

  /** For each token of a prompt the likeliest ones and itself by their ids; null for the first. */
  static List<Object> of(Choice choice, List<Generation.Token> prompt) {
    List<Object> places = new ArrayList<>();
    for (Generation.Token token : prompt) {
      if (Float.isNaN(token.logProbability())) {
        places.add(null);
        continue;
      }
      Map<String, Object> place = new LinkedHashMap<>();
      List<Alternatives.Candidate> likeliest = token.alternatives().likeliest();
      for (int rank = 1; rank <= likeliest.size(); rank++) {
        Alternatives.Candidate candidate = likeliest.get(rank - 1);
        put(place, choice, candidate.token(), candidate.logProbability(), rank);
      }
      for (Alternatives.Candidate candidate : token.alternatives().named()) {
        put(place, choice, candidate.token(), candidate.logProbability(), null);
      }
      put(place, choice, token.id(), token.logProbability(), null);
      places.add(place);
    }
    return places;
  }

  private static void put(
      Map<String, Object> place, Choice choice, int token, float logProbability, Integer rank) {
    place.putIfAbsent(
        Integer.toString(token),
        object(
            "logprob", Choice.finite(logProbability),
            "rank", rank,
            "decoded_token", choice.name(token)));
  }
}
