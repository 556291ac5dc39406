package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Activations of one sequence at chosen sites, gathered as its tokens pass. Each site shows the
 * value after its own edits: what the rest of the forward pass sees.
 *
 * <p>It is filled while a request that has it runs, and may be read when that has ended.
 */
public final class Capture {
  private final ModelConfig config;
  private final int length;
  private final int first;
  private final Map<Site, float[]> values = new LinkedHashMap<>();

  /**
   * Room for {@code length} tokens at each site.
   *
   * @throws IllegalArgumentException if one site's values would not fit a Java array
   */
  public Capture(ModelConfig config, Collection<Site> sites, int length) {
    this(config, sites, length, 0);
  }

  /** The last of {@code length} tokens alone, at sites that are no patterns. */
  public static Capture last(ModelConfig config, Collection<Site> sites, int length) {
    if (sites.stream().anyMatch(Capture::isPattern)) {
      throw new IllegalArgumentException("a pattern is captured for all tokens");
    }
    return new Capture(config, sites, length, length - 1);
  }

  private Capture(ModelConfig config, Collection<Site> sites, int length, int first) {
    this.config = config;
    this.length = length;
    this.first = first;
    for (Site site : sites) {
      long count = (long) (length - first) * site.width(config) * (isPattern(site) ? length : 1);
      if (count > Integer.MAX_VALUE - 8) {
        throw new IllegalArgumentException(
            "site %s of %,d tokens has %,d values, more than can be captured at once"
                .formatted(site, length, count));
      }
      values.put(site, new float[(int) count]);
    }
  }

  private static boolean isPattern(Site site) {
    return site.kind() == Site.Kind.PATTERN;
  }

  /** Whether a site is captured. */
  public boolean wants(Site site) {
    return values.containsKey(site);
  }

  /** Tokens of the sequence. */
  public int length() {
    return length;
  }

  /** All values, by site, in the order asked for. */
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
      int from = (head * (length - first) + token - first) * length;
      System.arraycopy(captured, from, heads, head * length, length);
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

  /** Takes rows of a site from {@code position} on: columns [from, from + width) of each row. */
  void take(Site site, int position, float[] rows, int stride, int from) {
    int width = site.width(config);
    float[] into = values.get(site);
    for (int row = Math.max(0, first - position); row < rows.length / stride; row++) {
      int to = (position + row - first) * width;
      System.arraycopy(rows, row * stride + from, into, to, width);
    }
  }

  /** Takes pattern rows [n_heads, rows, keys] of the tokens from {@code position} on. */
  void takePattern(Site site, int position, float[] pattern, int rows, int keys) {
    float[] into = values.get(site);
    for (int head = 0; head < config.nHeads(); head++) {
      for (int row = 0; row < rows; row++) {
        System.arraycopy(
            pattern,
            (head * rows + row) * keys,
            into,
            (head * length + position + row) * length,
            Math.min(keys, length));
      }
    }
  }
}
