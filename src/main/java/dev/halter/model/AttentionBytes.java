package dev.halter.model;

import dev.halter.device.DType;
import dev.halter.model.Attention.Form;
import dev.halter.model.Attention.Split;
import dev.halter.model.Attention.Work;
import dev.halter.weights.ModelConfig;
import java.util.List;

/**
 * What attention's kernels move in a step, by their contracts, for a profile: it depends on how
 * much each row sees.
 *
 * <p>Of methods' parameters, {@code window} is the layer's, 0 for none, and {@code edited} whether
 * heads are.
 */
record AttentionBytes(ModelConfig config, DType type, Form form) {
  /** By the kernel that works on a tile in one block. */
  long whole(Work work, int window) {
    Work.Shape shape = work.shape();
    return tiles(
        work.tiles().subList(shape.wide(), shape.firstSplit()),
        form.packed(),
        form.readsValuesInPages(),
        window);
  }

  /** By the kernel for spans of several rows. */
  long wide(Work work, int window) {
    return tiles(work.tiles().subList(0, work.shape().wide()), form.wide().packed(), true, window);
  }

  private long tiles(List<int[]> tiles, int packed, boolean valuesInPages, int window) {
    int group = config.nHeads() / config.nKvHeads();
    long rows = 0;
    long tokens = 0; // keys, and values, of a KV head
    for (int[] tile : tiles) {
      int first = firstKey(tile[3], window);
      int last = tile[3] + tile[1] - 1;
      long keys = inPages(first, last);
      long values = valuesInPages ? keys : last + 1 - first;
      tokens += Math.ceilDiv(tile[1] * group, packed) * (keys + values);
      rows += tile[1];
    }
    return config.nKvHeads() * tokens * headBytes() + 2 * rows * rowBytes();
  }

  /** By the kernel that works on splits that rows share: what it reads once, and leaves of each. */
  long shared(Work work, int window) {
    long moved = 0;
    for (Cascade.Part part : work.shared()) {
      int least = part.to();
      for (int i = part.first(); i < part.first() + part.tiles(); i++) {
        int[] tile = work.tiles().get(work.shape().firstSplit() + i);
        int from = Math.max(part.from(), firstKey(tile[3], window) / Split.KEYS);
        least = Math.min(least, from);
        moved += (part.to() - from) * form.placeBytes(config) + rowBytes();
      }
      moved += config.nKvHeads() * 2L * (part.to() - least) * Split.KEYS * headBytes();
    }
    return moved;
  }

  /** By the kernel that works on a split of a row's keys, what is merged written and read. */
  long split(Work work, int window, boolean edited) {
    long moved = 0;
    for (int i = 0; i < work.own().length; i++) {
      int[] tile = work.tiles().get(work.shape().firstSplit() + i);
      int own = Math.max(firstKey(tile[3], window), work.own()[i] * Split.KEYS);
      moved += config.nKvHeads() * 2L * inPages(own, tile[3]) * headBytes() + 2 * rowBytes();
      if (isMerged(tile, window, edited)) {
        int written = tile[3] / Split.KEYS - own / Split.KEYS + 1;
        moved += (written + splits(tile, window)) * form.placeBytes(config);
      }
    }
    return moved;
  }

  private static boolean isMerged(int[] tile, int window, boolean edited) {
    return edited || splits(tile, window) > 1;
  }

  private static int splits(int[] tile, int window) {
    return tile[3] / Split.KEYS - firstKey(tile[3], window) / Split.KEYS + 1;
  }

  /** The first key that the query at {@code position} sees. */
  private static int firstKey(int position, int window) {
    return window == 0 ? 0 : Math.max(0, position - window + 1);
  }

  /** Tokens of the pages that hold the keys from {@code first} to {@code last}. */
  private static long inPages(int first, int last) {
    return (last / KvCache.PAGE - first / KvCache.PAGE + 1) * (long) KvCache.PAGE;
  }

  /** Of a key or a value. */
  private long headBytes() {
    return (long) config.dHead() * type.bytes();
  }

  /** Of a row's queries, or of its z. */
  private long rowBytes() {
    return config.nHeads() * headBytes();
  }
}
