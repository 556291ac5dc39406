package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Activations of one sequence at chosen sites, gathered as its tokens pass: of all tokens of the
 * prompt or of some, and of generated ones as they are fed back, and nothing else is read. Each
 * site shows the value after its own edits: what the rest of the forward pass sees.
 */
public final class Capture {
  private final ModelConfig config;
  private final int length;
  private final int[] positions; // of the prompt, ascending
  private final Generated generated;
  private final List<Integer> fed =
      new ArrayList<>(); // positions of generated tokens that are read
  private final Map<Site, float[]> values = new LinkedHashMap<>(); // of the prompt
  private final Map<Site, List<float[]>> more = new HashMap<>(); // of each generated token

  /** Which generated tokens are read. */
  @FunctionalInterface
  public interface Generated {
    /** None of them. */
    Generated NONE = (index, token) -> false;

    /** Whether generated token number {@code index} is; 0 is the first one fed back. */
    boolean reads(int index, int token);
  }

  /**
   * All of {@code length} tokens.
   *
   * @throws IllegalArgumentException if one site's values would not fit a Java array
   */
  public Capture(ModelConfig config, Collection<Site> sites, int length) {
    this(config, sites, length, 0);
  }

  /** The last of {@code length} tokens alone. */
  public static Capture last(ModelConfig config, Collection<Site> sites, int length) {
    return new Capture(config, sites, length, length - 1);
  }

  /**
   * The tokens from {@code first} on of {@code length}.
   *
   * @throws IllegalArgumentException if one site's values would not fit a Java array
   */
  public Capture(ModelConfig config, Collection<Site> sites, int length, int first) {
    this(config, sites, length, from(first, length), Generated.NONE);
  }

  private static int[] from(int first, int length) {
    if (first < 0 || first >= length) {
      throw new IllegalArgumentException(
          "tokens from %d on of %d: the first must be 0 to %d"
              .formatted(first, length, length - 1));
    }
    return IntStream.range(first, length).toArray();
  }

  /**
   * Some tokens of a prompt of {@code length}, and of those that are generated after it.
   *
   * @param positions in the prompt, ascending; none for generated tokens alone
   * @throws IllegalArgumentException if one site's values would not fit a Java array
   */
  public Capture(
      ModelConfig config,
      Collection<Site> sites,
      int length,
      int[] positions,
      Generated generated) {
    this.config = config;
    this.length = length;
    this.positions = positions.clone();
    this.generated = generated;
    for (Site site : sites) {
      long count = elements(site, config, positions.length, length);
      if (count > Integer.MAX_VALUE - 8) {
        throw new IllegalArgumentException(
            "site %s of %,d tokens has %,d values, more than can be captured at once"
                .formatted(site, positions.length, count));
      }
      values.put(site, new float[(int) count]);
    }
  }

  static boolean isPattern(Site site) {
    return site.kind() == Site.Kind.PATTERN;
  }

  /**
   * Values of a site over {@code tokens} tokens.
   *
   * @param keys tokens that the last of them sees, itself included
   */
  public static long elements(Site site, ModelConfig config, int tokens, int keys) {
    return (long) tokens * site.width(config) * (isPattern(site) ? keys : 1);
  }

  /** Whether a site is captured. */
  public boolean wants(Site site) {
    return values.containsKey(site);
  }

  /** Sites that are read. */
  public Set<Site> sites() {
    return values.keySet();
  }

  /** Tokens of the prompt. */
  public int length() {
    return length;
  }

  /** The first token of the prompt that is read; its length if none is. */
  public int first() {
    return positions.length == 0 ? length : positions[0];
  }

  /**
   * Positions in the sequence of the tokens that were read, ascending; those from {@link #length}
   * on are of generated ones.
   */
  public int[] positions() {
    return IntStream.concat(Arrays.stream(positions), fed.stream().mapToInt(Integer::intValue))
        .toArray();
  }

  /** All values, by site, in the order asked for; of each {@link #shape(Site)}. */
  public Map<Site, float[]> values() {
    if (fed.isEmpty()) {
      return values;
    }
    Map<Site, float[]> all = new LinkedHashMap<>();
    values.forEach((site, prompt) -> all.put(site, isPattern(site) ? patterns(site) : rows(site)));
    return all;
  }

  /** Rows of prompt and generation, one after another. */
  private float[] rows(Site site) {
    float[] prompt = values.get(site);
    int width = site.width(config);
    float[] all = Arrays.copyOf(prompt, prompt.length + fed.size() * width);
    for (int i = 0; i < fed.size(); i++) {
      System.arraycopy(more.get(site).get(i), 0, all, prompt.length + i * width, width);
    }
    return all;
  }

  /** Patterns of prompt and generation over as many keys. */
  private float[] patterns(Site site) {
    int rows = positions.length + fed.size();
    int keys = keys();
    float[] all = new float[Math.toIntExact(elements(site, config, rows, keys))];
    for (int head = 0; head < config.nHeads(); head++) {
      for (int row = 0; row < rows; row++) {
        int given = row < positions.length ? length : fed.get(row - positions.length) + 1;
        float[] from =
            row < positions.length ? values.get(site) : more.get(site).get(row - positions.length);
        int at = row < positions.length ? head * positions.length + row : head;
        System.arraycopy(from, at * given, all, (head * rows + row) * keys, given);
      }
    }
    return all;
  }

  /** Keys of a pattern: tokens of the prompt, and up to the last generated one that is read. */
  private int keys() {
    return fed.isEmpty() ? length : fed.getLast() + 1;
  }

  /**
   * A copy of what one token has at a site: its values in {@link Site#shape}, or of a pattern
   * [n_heads, keys], whom the token looks at.
   *
   * @param position from 0, or negative from the end of the prompt; {@link #last} has -1 alone
   * @throws IllegalArgumentException if the site or the position was not captured
   */
  public float[] at(Site site, int position) {
    if (!wants(site)) {
      throw new IllegalArgumentException("site " + site + " was not captured: " + values.keySet());
    }
    int token = position < 0 ? length + position : position;
    int[] read = positions();
    int row = Arrays.binarySearch(read, token);
    if (row < 0) {
      throw new IllegalArgumentException(
          "position %d was not captured: there are %s".formatted(position, brief(read)));
    }
    float[] captured = values().get(site);
    if (!isPattern(site)) {
      int width = site.width(config);
      return Arrays.copyOfRange(captured, row * width, (row + 1) * width);
    }
    int keys = keys();
    float[] heads = new float[config.nHeads() * keys];
    for (int head = 0; head < config.nHeads(); head++) {
      System.arraycopy(captured, (head * read.length + row) * keys, heads, head * keys, keys);
    }
    return heads;
  }

  private static String brief(int... positions) {
    boolean isRange =
        positions.length > 0
            && positions[positions.length - 1] - positions[0] == positions.length - 1;
    return isRange
        ? positions[0] + " to " + positions[positions.length - 1]
        : Arrays.toString(positions);
  }

  /** As {@link #at(Site, int)}, by the site's TransformerLens name. */
  public float[] at(String site, int position) {
    return at(Site.of(site), position);
  }

  /**
   * As {@link #at(Site, int)}, at the one captured site of a layer: for a capture of one kind of
   * site, such as {@code blocks.*.hook_resid_post}.
   *
   * @throws IllegalArgumentException if none or several of the layer's sites were captured
   */
  public float[] at(int layer, int position) {
    List<Site> sites = values.keySet().stream().filter(site -> site.layer() == layer).toList();
    if (sites.size() != 1) {
      throw new IllegalArgumentException(
          "of layer %d these sites were captured: %s; name one".formatted(layer, sites));
    }
    return at(sites.getFirst(), position);
  }

  /** Shape of a site's values: [tokens, …]; of a pattern [n_heads, tokens, keys]. */
  public int[] shape(Site site) {
    int tokens = positions.length + fed.size();
    return isPattern(site)
        ? new int[] {config.nHeads(), tokens, keys()}
        : withTokens(tokens, site.shape(config));
  }

  /** Shape of a site's values over {@code length} tokens: [p, …]; a pattern is [n_heads, p, p]. */
  public static int[] shape(Site site, ModelConfig config, int length) {
    return isPattern(site)
        ? new int[] {config.nHeads(), length, length}
        : withTokens(length, site.shape(config));
  }

  private static int[] withTokens(int tokens, int... token) {
    int[] shape = new int[token.length + 1];
    shape[0] = tokens;
    System.arraycopy(token, 0, shape, 1, token.length);
    return shape;
  }

  /** Which tokens of a span of the sequence are read, as indices into it, ascending. */
  int[] indices(Batch.Span span) {
    int position = span.position();
    if (position < length) {
      int end = position + span.length();
      return Arrays.stream(positions)
          .filter(at -> at >= position && at < end)
          .map(at -> at - position)
          .toArray();
    }
    return IntStream.range(0, span.length())
        .filter(i -> generated.reads(position + i - length, span.tokens()[i]))
        .toArray();
  }

  /** Takes rows of a site: those of tokens of one span that are read, given by their positions. */
  void take(Site site, int[] tokens, float[] rows, int from) {
    int width = site.width(config);
    if (tokens[0] < length) {
      int row = Arrays.binarySearch(positions, tokens[0]);
      System.arraycopy(rows, from, values.get(site), row * width, tokens.length * width);
      return;
    }
    for (int i = 0; i < tokens.length; i++) {
      add(site, tokens[i], Arrays.copyOfRange(rows, from + i * width, from + (i + 1) * width));
    }
  }

  /**
   * Takes patterns of tokens that follow one another.
   *
   * @param pattern [n_heads, tokens, keys] from {@code from} on
   */
  void takePattern(Site site, int[] tokens, float[] pattern, int from, int keys) {
    for (int i = 0; i < tokens.length; i++) {
      boolean isPrompt = tokens[i] < length;
      int width = isPrompt ? length : tokens[i] + 1;
      float[] into = isPrompt ? values.get(site) : new float[config.nHeads() * width];
      int rows = isPrompt ? positions.length : 1;
      int row = isPrompt ? Arrays.binarySearch(positions, tokens[i]) : 0;
      for (int head = 0; head < config.nHeads(); head++) {
        int at = from + (head * tokens.length + i) * keys;
        System.arraycopy(pattern, at, into, (head * rows + row) * width, Math.min(keys, width));
      }
      if (!isPrompt) {
        add(site, tokens[i], into);
      }
    }
  }

  private void add(Site site, int position, float[] row) {
    more.computeIfAbsent(site, any -> new ArrayList<>()).add(row);
    if (fed.isEmpty() || fed.getLast() < position) { // the first of its sites
      fed.add(position);
    }
  }
}
