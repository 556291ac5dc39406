package dev.halter.model;

import dev.halter.device.HostCopy;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ForkJoinTask;
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
  private final Map<Site, Room> prompt = new LinkedHashMap<>();
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
      prompt.put(site, new Room((int) count));
    }
  }

  /**
   * An array for the values of a prompt at a site. A large one is made by another thread: to give
   * out a gigabyte of fresh memory takes the system longer than a card takes for the prompt, and
   * less if several ask for it.
   */
  private static final class Room {
    private static final int LARGE = 1 << 18;

    private final ForkJoinTask<float[]> array;

    Room(int count) {
      array = ForkJoinTask.adapt(() -> new float[count]);
      if (count < LARGE) {
        array.invoke();
      } else {
        array.fork();
      }
    }

    /**
     * The array.
     *
     * @throws OutOfMemoryError if Java had no memory for it
     */
    float[] get() {
      return array.join();
    }

    /** Has {@code count} values that a reading holds from byte {@code from} on copied. */
    HostCopy copy(long from, int at, int count) {
      return new HostCopy(from, 4L * count, () -> part(at, count));
    }

    /** Null where there is no array, of which {@link #get} tells who asks for the values. */
    private MemorySegment part(int at, int count) {
      array.quietlyJoin();
      return array.isCompletedNormally()
          ? MemorySegment.ofArray(array.join()).asSlice(4L * at, 4L * count)
          : null;
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
    return prompt.containsKey(site);
  }

  /** Sites that are read. */
  public Set<Site> sites() {
    return prompt.keySet();
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

  /**
   * All values, by site, in the order asked for; of each {@link #shape(Site)}.
   *
   * @throws OutOfMemoryError if Java had no memory for those of the prompt
   */
  public Map<Site, float[]> values() {
    Map<Site, float[]> all = new LinkedHashMap<>();
    sites().forEach(site -> all.put(site, values(site)));
    return all;
  }

  private float[] values(Site site) {
    if (fed.isEmpty()) {
      return prompt.get(site).get();
    }
    return isPattern(site) ? patterns(site) : rows(site);
  }

  /** Rows of prompt and generation, one after another. */
  private float[] rows(Site site) {
    float[] read = prompt.get(site).get();
    int width = site.width(config);
    float[] all = Arrays.copyOf(read, read.length + fed.size() * width);
    for (int i = 0; i < fed.size(); i++) {
      System.arraycopy(more.get(site).get(i), 0, all, read.length + i * width, width);
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
            row < positions.length
                ? prompt.get(site).get()
                : more.get(site).get(row - positions.length);
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
      throw new IllegalArgumentException("site " + site + " was not captured: " + sites());
    }
    int token = position < 0 ? length + position : position;
    int[] read = positions();
    int row = Arrays.binarySearch(read, token);
    if (row < 0) {
      throw new IllegalArgumentException(
          "position %d was not captured: there are %s".formatted(position, brief(read)));
    }
    float[] captured = values(site);
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
    List<Site> sites = sites().stream().filter(site -> site.layer() == layer).toList();
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

  /**
   * Has rows of a site copied: those of tokens of one span that are read, given by their positions.
   *
   * @param from where they begin among the bytes of the step's readings
   * @param copies grows
   */
  void take(Site site, int[] tokens, long from, List<HostCopy> copies) {
    int width = site.width(config);
    if (tokens[0] < length) {
      int row = Arrays.binarySearch(positions, tokens[0]);
      copies.add(prompt.get(site).copy(from, row * width, tokens.length * width));
      return;
    }
    for (int i = 0; i < tokens.length; i++) {
      float[] row = new float[width];
      copies.add(HostCopy.over(MemorySegment.ofArray(row), from + 4L * i * width));
      add(site, tokens[i], row);
    }
  }

  /**
   * Has patterns copied, of tokens of one span that follow one another: [n_heads, tokens, keys].
   *
   * @param from as in {@link #take}
   * @param keys that the last token sees, itself included
   * @param copies grows
   */
  void takePattern(Site site, int[] tokens, long from, int keys, List<HostCopy> copies) {
    if (tokens[0] < length) {
      takePromptPattern(site, tokens, from, keys, copies);
      return;
    }
    float[][] own = new float[tokens.length][];
    for (int i = 0; i < tokens.length; i++) {
      own[i] = new float[config.nHeads() * (tokens[i] + 1)];
      add(site, tokens[i], own[i]);
    }
    for (int head = 0; head < config.nHeads(); head++) {
      for (int i = 0; i < tokens.length; i++) {
        long width = 4L * (tokens[i] + 1);
        MemorySegment to = MemorySegment.ofArray(own[i]).asSlice(head * width, width);
        copies.add(HostCopy.over(to, from + 4L * (head * tokens.length + i) * keys));
      }
    }
  }

  /** Keys that a token does not see yet stay 0. */
  private void takePromptPattern(
      Site site, int[] tokens, long from, int keys, List<HostCopy> copies) {
    Room room = prompt.get(site);
    int first = Arrays.binarySearch(positions, tokens[0]);
    // Rows over all keys lie one behind another, as they are read.
    int together = keys == length ? tokens.length : 1;
    for (int head = 0; head < config.nHeads(); head++) {
      for (int i = 0; i < tokens.length; i += together) {
        int row = head * positions.length + first + i;
        long at = from + 4L * (head * tokens.length + i) * keys;
        copies.add(room.copy(at, row * length, together * keys));
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
