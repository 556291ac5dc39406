package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Activations of one sequence at chosen sites, gathered as its tokens pass: of all tokens or of
 * those from one on, and nothing else is read. Each site shows the value after its own edits: what
 * the rest of the forward pass sees.
 *
 * <p>It is filled while a request that has it runs, and may be read when that has ended.
 */
public final class Capture {
  private final ModelConfig config;
  private final int length;
  private final int first;
  private final Map<Site, float[]> values = new LinkedHashMap<>();

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
    if (first < 0 || first >= length) {
      throw new IllegalArgumentException(
          "tokens from %d on of %d: the first must be 0 to %d"
              .formatted(first, length, length - 1));
    }
    this.config = config;
    this.length = length;
    this.first = first;
    for (Site site : sites) {
      long count = (long) (length - first) * site.width(config) * (isPattern(site) ? length : 1);
      if (count > Integer.MAX_VALUE - 8) {
        throw new IllegalArgumentException(
            "site %s of %,d tokens has %,d values, more than can be captured at once"
                .formatted(site, length - first, count));
      }
      values.put(site, new float[(int) count]);
    }
  }

  static boolean isPattern(Site site) {
    return site.kind() == Site.Kind.PATTERN;
  }

  /** Whether a site is captured. */
  public boolean wants(Site site) {
    return values.containsKey(site);
  }

  /** Sites that are read. */
  public Set<Site> sites() {
    return values.keySet();
  }

  /** Tokens of the sequence. */
  public int length() {
    return length;
  }

  /** The first token that is read. */
  public int first() {
    return first;
  }

  /** All values, by site, in the order asked for; of each {@link #shape}. */
  public Map<Site, float[]> values() {
    return values;
  }

  /**
   * A copy of what one token has at a site: its values in {@link Site#shape}, or of a pattern
   * [n_heads, length], whom the token looks at.
   *
   * @param position from 0, or negative from the end; {@link #last} has -1 alone
   * @throws IllegalArgumentException if the site or the position was not captured
   */
  public float[] at(Site site, int position) {
    float[] captured = values.get(site);
    int token = position < 0 ? length + position : position;
    if (captured == null) {
      throw new IllegalArgumentException("site " + site + " was not captured: " + values.keySet());
    }
    if (token < first || token >= length) {
      throw new IllegalArgumentException(
          "position %d was not captured: there are %d to %d"
              .formatted(position, first, length - 1));
    }
    if (!isPattern(site)) {
      int width = site.width(config);
      return Arrays.copyOfRange(captured, (token - first) * width, (token - first + 1) * width);
    }
    float[] heads = new float[config.nHeads() * length];
    for (int head = 0; head < config.nHeads(); head++) {
      int row = head * (length - first) + token - first;
      System.arraycopy(captured, row * length, heads, head * length, length);
    }
    return heads;
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

  /** Shape of a site's values over {@code length} tokens: [p, …]; a pattern is [n_heads, p, p]. */
  public static int[] shape(Site site, ModelConfig config, int length) {
    if (isPattern(site)) {
      return new int[] {config.nHeads(), length, length};
    }
    int[] token = site.shape(config);
    int[] shape = new int[token.length + 1];
    shape[0] = length;
    System.arraycopy(token, 0, shape, 1, token.length);
    return shape;
  }

  /** Takes {@code count} rows of a site of the tokens from {@code position} on. */
  void take(Site site, int position, float[] rows, int from, int count) {
    int width = site.width(config);
    System.arraycopy(rows, from, values.get(site), (position - first) * width, count * width);
  }

  /** Takes pattern rows [n_heads, count, keys] of the tokens from {@code position} on. */
  void takePattern(Site site, int position, float[] pattern, int from, int count, int keys) {
    float[] into = values.get(site);
    for (int head = 0; head < config.nHeads(); head++) {
      for (int row = 0; row < count; row++) {
        System.arraycopy(
            pattern,
            from + (head * count + row) * keys,
            into,
            (head * (length - first) + position - first + row) * length,
            Math.min(keys, length));
      }
    }
  }
}
