package dev.halter.patching;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Question;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;

/**
 * Two prompts that differ in what a task needs, and the answer to the first of them.
 *
 * @param reference tokens of the prompt that has the answer
 * @param counterfactual tokens of the prompt that has lost what the answer needs
 * @param answer token that should follow the reference
 * @param foil token that the answer is measured against, if there is one
 * @param spans named parts of the reference (operands, operators): positions of their tokens
 * @param label what the pair is an example of, or null
 */
public record Pair(
    int[] reference,
    int[] counterfactual,
    int answer,
    OptionalInt foil,
    Map<String, List<Integer>> spans,
    String label) {

  private static final String[] KEYS = {
    "reference",
    "reference_tokens",
    "counterfactual",
    "counterfactual_tokens",
    "answer",
    "answer_token",
    "foil",
    "foil_token",
    "spans",
    "label"
  };

  /**
   * How many tokens both prompts begin with, short of the reference's last: up to there they leave
   * the same keys and values.
   */
  public int sharedPrefix() {
    int mismatch = Arrays.mismatch(reference, counterfactual);
    int same = mismatch < 0 ? reference.length : mismatch;
    return Math.min(same, Math.min(reference.length, counterfactual.length) - 1);
  }

  /** Whether the answer follows the reference. */
  public Question question(String kind) {
    return new Question(kind, reference, 1, Set.of(), tokens -> tokens[0] == answer);
  }

  /** Tokens of the longer prompt. */
  public int longest() {
    return Math.max(reference.length, counterfactual.length);
  }

  /**
   * Checks that both prompts of every pair have as many tokens, so that positions correspond.
   *
   * @throws IllegalArgumentException naming the first pair whose prompts have not
   */
  static void requireAligned(List<Pair> pairs) {
    for (int i = 0; i < pairs.size(); i++) {
      Pair pair = pairs.get(i);
      if (pair.reference.length != pair.counterfactual.length) {
        throw new IllegalArgumentException(
            ("pair %d has a reference of %d tokens and a counterfactual of %d: where positions are"
                    + " patched, both must have as many")
                .formatted(i + 1, pair.reference.length, pair.counterfactual.length));
      }
    }
  }

  /**
   * A pair of texts.
   *
   * @param answer one token that follows the reference; a space before it is thought of where there
   *     is none
   * @throws BadFileException naming the part that is empty or too long, or the answer if it is no
   *     single token there
   */
  public static Pair of(
      LanguageModel model, String reference, String counterfactual, String answer) {
    Map<String, Object> parts =
        Json.object("reference", reference, "counterfactual", counterfactual, "answer", answer);
    byte[] json = Json.text(parts).getBytes(StandardCharsets.UTF_8);
    return of(JsonObject.parse(Path.of("pair"), json), model);
  }

  /**
   * Reads pairs, one JSON object a line: {@code {"reference"|"reference_tokens",
   * "counterfactual"|"counterfactual_tokens", "answer"|"answer_token", "foil"|"foil_token"?,
   * "spans"?: {name: [position, …]}, "label"?}}. Prompts as text get the special tokens that the
   * tokenizer adds; {@code answer} and {@code foil} as text are the one token that follows the
   * reference, with a space before it if neither it nor the reference has one and that is one
   * token, else as it is.
   *
   * @throws BadFileException naming the line and the key, for the first line that is no pair: a
   *     mean over the rest would be of other pairs than were asked for
   */
  public static List<Pair> read(Path file, LanguageModel model) {
    return JsonObject.readLines(file).stream().map(json -> of(json, model)).toList();
  }

  /**
   * A pair from its JSON object.
   *
   * @throws BadFileException naming the key
   */
  public static Pair of(JsonObject json, LanguageModel model) {
    json.only(KEYS);
    int[] reference = prompt(json, "reference", model);
    int[] counterfactual = prompt(json, "counterfactual", model);
    boolean hasFoil = json.has("foil") || json.has("foil_token");
    return new Pair(
        reference,
        counterfactual,
        following(json, "answer", reference, model),
        hasFoil ? OptionalInt.of(following(json, "foil", reference, model)) : OptionalInt.empty(),
        spans(json, reference.length),
        json.text("label", null));
  }

  private static int[] prompt(JsonObject json, String key, LanguageModel model) {
    String tokensKey = key + "_tokens";
    requireOne(json, key, tokensKey);
    int[] tokens =
        json.has(key)
            ? model.encode(json.text(key))
            : json.integers(tokensKey).stream().mapToInt(Integer::intValue).toArray();
    String given = json.has(key) ? key : tokensKey;
    int most = model.engine().maxTokens();
    if (tokens.length == 0 || tokens.length > most) {
      throw new BadFileException(
          json.file(),
          "\"%s\" has %,d tokens, but must have 1 to %,d (--context)"
              .formatted(given, tokens.length, most));
    }
    for (int token : tokens) {
      if (token >= model.config().vocabularySize()) {
        throw new BadFileException(
            json.file(),
            "\"%s\" holds token %d, but ids are 0 to %d"
                .formatted(given, token, model.config().vocabularySize() - 1));
      }
    }
    return tokens;
  }

  /** The one token of a text that follows the reference. */
  private static int following(JsonObject json, String key, int[] reference, LanguageModel model) {
    String tokenKey = key + "_token";
    requireOne(json, key, tokenKey);
    if (!json.has(key)) {
      return json.integer(tokenKey, 0, model.config().vocabularySize() - 1);
    }
    String text = json.text(key);
    for (String written : spellings(text, reference, model)) {
      // After a prompt in text it is what tokenization of both together adds; after one in tokens,
      // the text by itself.
      int[] tokens =
          json.has("reference")
              ? added(reference, model.encode(json.text("reference") + written))
              : model.tokenizer().encode(written, false);
      if (tokens.length == 1) {
        return tokens[0];
      }
    }
    throw new BadFileException(
        json.file(),
        "\"%s\" is \"%s\", which is no single token after the reference: name one with \"%s\""
            .formatted(key, text, tokenKey));
  }

  /**
   * A word as it may follow a prompt: with a space before it first, since that is another token and
   * the one that goes on from a text; as it is first where it has a space or the prompt ends in
   * one, as those of many chat templates do.
   */
  private static List<String> spellings(String word, int[] prompt, LanguageModel model) {
    String last = model.decode(new int[] {prompt[prompt.length - 1]});
    boolean isApart = word.isBlank() || word.startsWith(" ") || !last.equals(last.stripTrailing());
    return isApart ? List.of(word, " " + word) : List.of(" " + word, word);
  }

  /** What {@code both} has after {@code prompt}; nothing if it does not begin with it. */
  private static int[] added(int[] prompt, int[] both) {
    return both.length > prompt.length
            && Arrays.equals(prompt, 0, prompt.length, both, 0, prompt.length)
        ? Arrays.copyOfRange(both, prompt.length, both.length)
        : new int[0];
  }

  private static Map<String, List<Integer>> spans(JsonObject json, int length) {
    if (!json.has("spans")) {
      return Map.of();
    }
    JsonObject named = json.object("spans");
    Map<String, List<Integer>> spans = new LinkedHashMap<>();
    for (String name : named.keys()) {
      List<Integer> positions = named.integers(name);
      for (int position : positions) {
        if (position >= length) {
          throw new BadFileException(
              json.file(),
              "\"%s\" holds %d, but the reference's positions are 0 to %d"
                  .formatted(named.path(name), position, length - 1));
        }
      }
      spans.put(name, List.copyOf(positions));
    }
    return spans;
  }

  private static void requireOne(JsonObject json, String first, String second) {
    if (json.has(first) == json.has(second)) {
      throw new BadFileException(
          json.file(), "must have exactly one of \"%s\" and \"%s\"".formatted(first, second));
    }
  }
}
