package dev.halter.steering;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Function;

/**
 * Which tokens of a request an intervention acts on: selectors for the prompt and for generated
 * tokens. The meaning is EasySteer's: within a phase what selectors include is united, what the
 * {@code exclude_*} twins name is taken out again, and a phase without a selector is left alone.
 *
 * <p>In Java they compose:
 *
 * {@snippet file="dev/halter/snippets/SteeringSnippetsTest.java" region="trigger"}
 *
 * <p>The prompt's last token, whose logits give the first generated token, belongs to the prompt;
 * generated token 0 is the first one fed back.
 */
public record Trigger(Phase prompt, Phase generation) {
  /** Everywhere: what a plan without {@code when} means. */
  public static final Trigger ALWAYS = new Trigger(Phase.ALL, Phase.ALL);

  /** The whole prompt. */
  public static final Trigger PROMPT = new Trigger(Phase.ALL, Phase.NONE);

  /** All generated tokens. */
  public static final Trigger GENERATION = new Trigger(Phase.NONE, Phase.ALL);

  /** The prompt's last token alone. */
  public static final Trigger LAST = promptPositions(-1);

  /** The prompt's last token and everything after it. */
  public static final Trigger FROM_LAST = LAST.or(GENERATION);

  /** The prompt's first token alone. */
  public static final Trigger FIRST = promptPositions(0);

  private static final int FAR = Integer.MAX_VALUE;

  /** The selectors of one phase. */
  public record Phase(Selection include, Selection exclude) {
    static final Phase NONE = new Phase(Selection.NOTHING, Selection.NOTHING);
    static final Phase ALL = new Phase(new Selection(true, null, null, null), Selection.NOTHING);

    static Phase of(Selection include) {
      return new Phase(include, Selection.NOTHING);
    }

    Phase or(Phase other) {
      return new Phase(include.or(other.include), exclude.or(other.exclude));
    }

    Phase except(Phase other) {
      return new Phase(include, exclude.or(other.include));
    }

    Phase yieldingTo(Phase first) {
      if (!isUsed() || !first.isUsed()) {
        return this;
      }
      if (first.exclude.isUsed()) {
        throw new IllegalArgumentException("what the first excludes cannot be told again");
      }
      return first.include.all ? NONE : except(first);
    }

    boolean isUsed() {
      return include.isUsed();
    }

    /** Whether all tokens are selected, or none. */
    boolean isAlike() {
      return !exclude.isUsed() && (include.all || !include.isUsed());
    }

    boolean selects(int position, int length, int token) {
      return include.selects(position, length, token, true)
          && !exclude.selects(position, length, token, false);
    }
  }

  /**
   * A union of tokens; parts that are not given are null.
   *
   * @param all every token
   * @param tokens token ids
   * @param positions from the start, or negative from the end
   * @param window half-open range of positions
   */
  public record Selection(
      boolean all, Set<Integer> tokens, List<Integer> positions, Window window) {
    static final Selection NOTHING = new Selection(false, null, null, null);

    static Selection ofPositions(List<Integer> positions) {
      return new Selection(false, null, positions, null);
    }

    static Selection ofTokens(Set<Integer> tokens) {
      return new Selection(false, tokens, null, null);
    }

    static Selection of(Window window) {
      if ((window.from < 0) == (window.to < 0) && window.from >= window.to) {
        throw new IllegalArgumentException(
            "the window [%d, %d) is empty".formatted(window.from, window.to));
      }
      return new Selection(false, null, null, window);
    }

    Selection or(Selection other) {
      if (window != null && other.window != null) {
        throw new IllegalArgumentException("a selection has one window, not two");
      }
      return new Selection(
          all || other.all,
          union(tokens, other.tokens, HashSet::new),
          union(positions, other.positions, ArrayList::new),
          window == null ? other.window : window);
    }

    private static <T, C extends Collection<T>> C union(C a, C b, Function<C, C> copy) {
      if (a == null || b == null) {
        return a == null ? b : a;
      }
      C union = copy.apply(a);
      union.addAll(b);
      return union;
    }

    boolean isUsed() {
      return all || tokens != null || positions != null || window != null;
    }

    /** Whether it names positions that a short prompt clamps to its last token. */
    boolean isClamped() {
      return !all && positions != null && positions.stream().anyMatch(position -> position > 0);
    }

    boolean selects(int position, int length, int token, boolean clampToLast) {
      if (all || tokens != null && tokens.contains(token)) {
        return true;
      }
      if (window != null && window.contains(position, length)) {
        return true;
      }
      if (positions == null) {
        return false;
      }
      for (int selected : positions) {
        int at = selected < 0 ? length + selected : selected;
        if (position == (clampToLast ? Math.min(at, length - 1) : at)) {
          return true;
        }
      }
      return false;
    }
  }

  /** Positions from {@code from} up to but without {@code to}; negative counts from the end. */
  public record Window(int from, int to) {
    boolean contains(int position, int length) {
      int first = from < 0 ? length + from : from;
      int end = to < 0 ? length + to : to;
      return position >= first && position < end;
    }
  }

  /** Tokens of the prompt by position, from the start or negative from the end. */
  public static Trigger promptPositions(Integer... positions) {
    return new Trigger(Phase.of(Selection.ofPositions(List.of(positions))), Phase.NONE);
  }

  /** Generated tokens by number; 0 is the first one fed back. */
  public static Trigger generationPositions(Integer... positions) {
    for (int position : positions) {
      if (position < 0) {
        throw new IllegalArgumentException("generation has no end yet to count from: " + position);
      }
    }
    return new Trigger(Phase.NONE, Phase.of(Selection.ofPositions(List.of(positions))));
  }

  /** Tokens of the prompt that have one of these ids. */
  public static Trigger promptTokens(Integer... tokens) {
    return new Trigger(Phase.of(Selection.ofTokens(Set.of(tokens))), Phase.NONE);
  }

  /** Generated tokens that have one of these ids. */
  public static Trigger generationTokens(Integer... tokens) {
    return new Trigger(Phase.NONE, Phase.of(Selection.ofTokens(Set.of(tokens))));
  }

  /** The prompt's positions from {@code from} up to but without {@code to}. */
  public static Trigger promptWindow(int from, int to) {
    return new Trigger(Phase.of(Selection.of(new Window(from, to))), Phase.NONE);
  }

  /** Generated tokens from number {@code from} up to but without {@code to}. */
  public static Trigger generationWindow(int from, int to) {
    if (from < 0 || to < 0) {
      throw new IllegalArgumentException("generation has no end yet to count from: " + to);
    }
    return new Trigger(Phase.NONE, Phase.of(Selection.of(new Window(from, to))));
  }

  /**
   * What either selects; what either excludes is taken out of all of it.
   *
   * @throws IllegalArgumentException if both have a window of the same phase
   */
  public Trigger or(Trigger other) {
    return new Trigger(prompt.or(other.prompt), generation.or(other.generation));
  }

  /** What this selects without what the other includes. */
  public Trigger except(Trigger other) {
    return new Trigger(prompt.except(other.prompt), generation.except(other.generation));
  }

  /** Whether there can be a token that both select, as far as their phases tell. */
  public boolean mayMeet(Trigger other) {
    return prompt.isUsed() && other.prompt.isUsed()
        || generation.isUsed() && other.generation.isUsed();
  }

  /** Whether no token at all can be selected. */
  public boolean isNothing() {
    return !prompt.isUsed() && !generation.isUsed();
  }

  /**
   * What this selects of the tokens that {@code first} does not.
   *
   * @throws IllegalArgumentException where a trigger cannot say that: {@code first} excludes tokens
   *     or names positions that a short prompt clamps, or there would be two windows
   */
  public Trigger yieldingTo(Trigger first) {
    if (prompt.isUsed() && first.prompt.include.isClamped()) {
      throw new IllegalArgumentException("a short prompt clamps positions of the first");
    }
    return new Trigger(prompt.yieldingTo(first.prompt), generation.yieldingTo(first.generation));
  }

  /** Whether the token at {@code position} of a prompt of {@code length} tokens is selected. */
  public boolean selectsPrompt(int position, int length, int token) {
    return prompt.selects(position, length, token);
  }

  /** Whether generated token number {@code index} (0 is the first) is selected. */
  public boolean selectsGenerated(int index, int token) {
    return generation.selects(index, FAR, token);
  }

  /** Positions that a prompt of this length clamps to its last token. */
  public List<Integer> beyondPrompt(int length) {
    List<Integer> positions = prompt.include.positions;
    return positions == null
        ? List.of()
        : positions.stream().filter(position -> position >= length).toList();
  }

  /** Whether any token of this prompt is selected. */
  public boolean actsOnPrompt(int[] tokens) {
    for (int i = 0; i < tokens.length; i++) {
      if (selectsPrompt(i, tokens.length, tokens[i])) {
        return true;
      }
    }
    return false;
  }

  /** Whether any generated token can be selected. */
  public boolean actsOnGeneration() {
    return generation.isUsed();
  }

  /**
   * The same tokens of a text whose first {@code length} tokens are the prompt and whose others
   * were generated, when all of it is read as a prompt; null if they are none.
   */
  Trigger along(int[] text, int length) {
    List<Integer> positions = new ArrayList<>();
    for (int i = 0; i < text.length; i++) {
      boolean selected =
          i < length ? selectsPrompt(i, length, text[i]) : selectsGenerated(i - length, text[i]);
      if (selected) {
        positions.add(i);
      }
    }
    if (positions.isEmpty()) {
      return null;
    }
    return positions.size() == text.length
        ? ALWAYS
        : promptPositions(positions.toArray(Integer[]::new));
  }

  /** Whether all tokens of any prompt are selected, or none. */
  boolean treatsPromptAlike() {
    return prompt.isAlike();
  }

  /** Whether all generated tokens are selected, or none. */
  boolean treatsGenerationAlike() {
    return generation.isAlike();
  }

  /**
   * Reads {@code when}.
   *
   * @param vocabularySize token ids lie below it
   * @throws BadFileException for unknown keys, values out of range, and selectors that select
   *     nothing
   */
  public static Trigger read(JsonObject json, int vocabularySize) {
    List<String> keys = new ArrayList<>();
    for (String phase : List.of("prompt", "generation")) {
      keys.add(phase);
      for (String prefix : List.of(phase, "exclude_" + phase)) {
        keys.addAll(List.of(prefix + "_tokens", prefix + "_positions", prefix + "_window"));
      }
    }
    json.only(keys.toArray(String[]::new));
    Trigger trigger =
        new Trigger(
            phase(json, "prompt", vocabularySize), phase(json, "generation", vocabularySize));
    if (!trigger.prompt.isUsed() && !trigger.generation.isUsed()) {
      throw new BadFileException(
          json.file(), "\"" + json.path("") + "\" selects nothing: it includes no token");
    }
    return trigger;
  }

  private static Phase phase(JsonObject json, String name, int vocabularySize) {
    boolean all = false;
    if (json.has(name)) {
      all =
          switch (json.text(name)) {
            case "all" -> true;
            case "none" -> false;
            default -> throw json.wrong(name, "\"all\" or \"none\"");
          };
    }
    Phase phase =
        new Phase(
            selection(json, name, name, all, vocabularySize),
            selection(json, "exclude_" + name, name, false, vocabularySize));
    if (phase.exclude.isUsed() && !phase.include.isUsed()) {
      throw new BadFileException(
          json.file(), "excludes tokens at \"" + json.path(name) + "\", but includes none there");
    }
    return phase;
  }

  private static Selection selection(
      JsonObject json, String prefix, String phase, boolean all, int vocabularySize) {
    boolean generated = phase.equals("generation");
    List<Integer> tokens = ints(json, prefix + "_tokens", 0, vocabularySize - 1);
    List<Integer> positions = ints(json, prefix + "_positions", generated ? 0 : -FAR, FAR);
    return new Selection(
        all,
        tokens == null ? null : new HashSet<>(tokens),
        positions,
        window(json, prefix + "_window", generated));
  }

  private static List<Integer> ints(JsonObject json, String key, int min, int max) {
    if (!json.has(key)) {
      return null;
    }
    List<Integer> values = new ArrayList<>();
    if (json.value(key) instanceof List<?> items && !items.isEmpty()) {
      for (Object item : items) {
        if (!(item instanceof Integer number) || number < min || number > max) {
          throw json.wrong(key, "a list of integers from " + min + " to " + max);
        }
        values.add(number);
      }
      return List.copyOf(values);
    }
    throw json.wrong(key, "a list of at least one integer");
  }

  private static Window window(JsonObject json, String key, boolean generated) {
    if (!json.has(key)) {
      return null;
    }
    if (json.value(key) instanceof List<?> ends
        && ends.size() == 2
        && (ends.get(0) == null || ends.get(0) instanceof Integer)
        && (ends.get(1) == null || ends.get(1) instanceof Integer)) {
      int from = ends.get(0) == null ? 0 : (Integer) ends.get(0);
      int to = ends.get(1) == null ? FAR : (Integer) ends.get(1);
      if (generated && (from < 0 || to < 0)) {
        throw json.wrong(key, "a window without negative ends: generation has no end yet");
      }
      if ((from < 0) == (to < 0) && from >= to) {
        throw json.wrong(key, "a window [from, to) that is not empty");
      }
      return new Window(from, to);
    }
    throw json.wrong(key, "[from, to), each an integer or null");
  }
}
