package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;

/**
 * Attention over keys that rows of a step have in common, read once for all of them (cascade
 * inference, Ye et al. 2024; Hydragen, Juravsky et al. 2024): where sequences hold the same pages,
 * as those that begin alike do ({@link KvCache#share}), a kernel makes whole splits of those pages
 * for many rows at a time, before each row's own. Bits are the same with it and without.
 *
 * <p>Rows with the same pages lie next to each other once sequences are in the order of their
 * pages; those of them that have more pages in common, likewise. So what is shared is a tree, and a
 * row takes part in each of its levels.
 *
 * @param kernel what makes them
 * @param most tiles that a block takes
 * @param sharedBytes its dynamic shared memory
 * @param leastRows fewer rows make their own
 * @param leastSaved splits that need not be read, over all rows, for which a launch is worth it
 */
record Cascade(String kernel, int most, int sharedBytes, int leastRows, int leastSaved) {
  private static final String PROPERTY = "halter.cascade";
  private static final int LEAST_ROWS = 4;

  /**
   * Of keys and values in a layer. A launch takes 2 to 3 µs, in which an H200 reads 12 MB from its
   * memory and somewhat more from its L2 cache, where shared pages are likely to be: twice that.
   */
  private static final long LEAST_BYTES = 24 << 20;

  private static final int PAGES = Attention.Split.KEYS / KvCache.PAGE; // of a split

  /** Splits from {@code from} on, before {@code to}, of so many tiles from the first on. */
  record Part(int first, int tiles, int from, int to) {}

  /** Null if {@code -Dhalter.cascade=off} says so. */
  static Cascade sm80(ModelConfig config, int packed) {
    String wanted = System.getProperty(PROPERTY, "on");
    return switch (wanted) {
      case "off" -> null;
      case "on" -> {
        int dHead = config.dHead();
        long splitBytes = 2L * 2 * Attention.Split.KEYS * config.nKvHeads() * dHead;
        yield new Cascade(
            "attention_shared_sm80_" + dHead,
            packed * config.nKvHeads() / config.nHeads(),
            512 * dHead,
            LEAST_ROWS,
            Math.toIntExact(LEAST_BYTES / splitBytes));
      }
      default ->
          throw new IllegalArgumentException(
              "-D%s=%s: choose on or off".formatted(PROPERTY, wanted));
    };
  }

  /** Whatever is shared by two rows or more. */
  Cascade always() {
    return new Cascade(kernel, most, sharedBytes, 2, 1);
  }

  /**
   * Finds what is worth sharing.
   *
   * @param tiles {row, place, sequence, position}; put in another order if there is any
   * @param limit most parts
   */
  List<Part> parts(List<int[]> tiles, KvCache cache, int limit) {
    if (tiles.size() < leastRows) {
      return List.of();
    }
    List<int[]> sorted = new ArrayList<>(tiles);
    sorted.sort((a, b) -> compare(a, b, cache));
    List<Part> parts = new ArrayList<>();
    new Search(sorted, cache, limit, parts).find(0, sorted.size(), 0);
    int saved = parts.stream().mapToInt(part -> (part.tiles - 1) * (part.to - part.from)).sum();
    if (saved < leastSaved) {
      return List.of();
    }
    for (int i = 0; i < sorted.size(); i++) {
      tiles.set(i, sorted.get(i));
    }
    return parts;
  }

  /** Splits of which a row's own key is none: those can be shared. */
  private static int before(int[] tile) {
    return tile[3] / Attention.Split.KEYS;
  }

  private static int compare(int[] a, int[] b, KvCache cache) {
    int count = PAGES * Math.min(before(a), before(b));
    int common = cache.commonPages(a[2], b[2], count);
    return common == count
        ? Integer.compare(before(a), before(b))
        : Integer.compare(cache.page(a[2], common), cache.page(b[2], common));
  }

  private final class Search {
    private final List<int[]> sorted;
    private final KvCache cache;
    private final int limit;
    private final List<Part> parts;

    Search(List<int[]> sorted, KvCache cache, int limit, List<Part> parts) {
      this.sorted = sorted;
      this.cache = cache;
      this.limit = limit;
      this.parts = parts;
    }

    /** Adds the parts of tiles [a, b) that share the splits before {@code from}. */
    void find(int a, int b, int from) {
      if (b - a < leastRows) {
        return;
      }
      int to = common(a, b - 1);
      int made = from;
      if (to > from && parts.size() + Math.ceilDiv(b - a, most) <= limit) {
        for (int i = a; i < b; i += most) {
          parts.add(new Part(i, Math.min(most, b - i), from, to));
        }
        made = to;
      }
      // Those that have the next split in common as well.
      for (int i = a; i < b; ) {
        int end = i + 1;
        while (end < b && common(i, end) > to) {
          end++;
        }
        find(i, end, made);
        i = end;
      }
    }

    /** Splits that the sequences of two tiles have in common. */
    private int common(int i, int j) {
      int[] a = sorted.get(i);
      int[] b = sorted.get(j);
      int count = Math.min(before(a), before(b));
      return cache.commonPages(a[2], b[2], PAGES * count) / PAGES;
    }
  }
}
