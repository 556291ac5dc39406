package dev.halter.cli;

import dev.halter.files.JsonObject;
import dev.halter.generation.Request;
import java.util.List;
import java.util.Set;
import picocli.CommandLine.Option;

/** When an answer may end, by options and by a line's own keys. */
final class EndingOptions {
  /** Keys of a line. */
  static final List<String> KEYS = List.of("min_tokens", "ignore_eos");

  @Option(
      names = "--min-tokens",
      paramLabel = "N",
      defaultValue = "0",
      description = "No end before so many tokens (default: ${DEFAULT-VALUE}).")
  int minTokens;

  @Option(
      names = "--ignore-eos",
      description = "Go on to --max-tokens, whatever the model takes for the end.")
  boolean ignoreEos;

  /** Refuses a number that no request takes. */
  void check() {
    if (minTokens < 0) {
      throw new WrongUseException("--min-tokens is " + minTokens + ", must be 0 or more");
    }
  }

  /** The request, which has the model's stop tokens, with these. */
  Request with(Request request) {
    return with(request, minTokens, ignoreEos);
  }

  /** As a line says, and else as these. */
  Request with(Request request, JsonObject json) {
    return with(
        request,
        json.integer("min_tokens", 0, Integer.MAX_VALUE, minTokens),
        json.flag("ignore_eos", ignoreEos));
  }

  private static Request with(Request request, int minTokens, boolean ignoreEos) {
    Request least = request.withMinTokens(minTokens);
    return ignoreEos ? least.withStopTokens(Set.of()) : least;
  }
}
