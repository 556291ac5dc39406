package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;

/**
 * Keys and values of all sequences, in pages of {@value #PAGE} tokens that sequences take as they
 * grow and give back when they end. A page holds, for each layer and KV head, keys as [d_head,
 * {@value #PAGE}] and values as [{@value #PAGE}, d_head].
 */
public final class KvCache {
  /** Tokens per page; the kernels' constant. */
  public static final int PAGE = 64;

  private final List<Buffer> keys = new ArrayList<>();
  private final List<Buffer> values = new ArrayList<>();
  private final Buffer pageTable;
  private final int pagesPerSequence;
  private final int[] table;
  private final int[] pagesHeld;
  private final Deque<Integer> freePages = new ArrayDeque<>();
  private final Deque<Integer> freeSequences = new ArrayDeque<>();
  private final int pages;
  private boolean changed = true;

  /**
   * Allocates the cache.
   *
   * @param scope that it lives in
   * @param type of the activations: f32 or bf16
   * @param pages pages in all
   * @param sequences sequences that may be open at once
   * @param maxTokens longest sequence
   */
  public KvCache(
      Scope scope, ModelConfig config, DType type, int pages, int sequences, int maxTokens) {
    this.pages = pages;
    this.pagesPerSequence = Math.min(pages, pagesFor(maxTokens));
    this.table = new int[sequences * pagesPerSequence];
    this.pagesHeld = new int[sequences];
    long bytes = pages * pageBytes(config, type) / 2 / config.nLayers();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      keys.add(scope.allocate(bytes));
      values.add(scope.allocate(bytes));
    }
    this.pageTable = scope.allocate(4L * table.length);
    for (int page = 0; page < pages; page++) {
      freePages.add(page);
    }
    for (int sequence = 0; sequence < sequences; sequence++) {
      freeSequences.add(sequence);
    }
  }

  /** Bytes of one page over all layers, keys and values. */
  public static long pageBytes(ModelConfig config, DType type) {
    return 2L * config.nLayers() * config.nKvHeads() * config.dHead() * PAGE * type.bytes();
  }

  /** Pages that {@code tokens} tokens need. */
  public static int pagesFor(int tokens) {
    return (tokens + PAGE - 1) / PAGE;
  }

  /** Opens an empty sequence. */
  public int open() {
    return freeSequences.removeFirst();
  }

  /** Sequences that can still be opened. */
  public int sequencesFree() {
    return freeSequences.size();
  }

  public int pagesFree() {
    return freePages.size();
  }

  public int pages() {
    return pages;
  }

  /** Longest sequence in tokens. */
  public int maxTokens() {
    return pagesPerSequence * PAGE;
  }

  /**
   * Makes room for a sequence to hold {@code tokens} tokens.
   *
   * @return false, and nothing changes, if too few pages are free
   */
  public boolean reserve(int sequence, int tokens) {
    int needed = pagesFor(tokens);
    if (needed > pagesPerSequence) {
      throw new IllegalArgumentException(
          tokens + " tokens do not fit the cache's longest sequence of " + maxTokens());
    }
    if (needed - pagesHeld[sequence] > freePages.size()) {
      return false;
    }
    while (pagesHeld[sequence] < needed) {
      table[sequence * pagesPerSequence + pagesHeld[sequence]++] = freePages.removeFirst();
      changed = true;
    }
    return true;
  }

  /** Ends a sequence and frees its pages. */
  public void release(int sequence) {
    for (int i = pagesHeld[sequence] - 1; i >= 0; i--) {
      freePages.addFirst(table[sequence * pagesPerSequence + i]);
    }
    Arrays.fill(
        table, sequence * pagesPerSequence, sequence * pagesPerSequence + pagesHeld[sequence], 0);
    pagesHeld[sequence] = 0;
    freeSequences.addFirst(sequence);
  }

  Buffer keys(int layer) {
    return keys.get(layer);
  }

  Buffer values(int layer) {
    return values.get(layer);
  }

  /** The page table [sequences, pagesPerSequence] on the device, up to date. */
  Buffer pageTable() {
    if (changed) {
      pageTable.set(table);
      changed = false;
    }
    return pageTable;
  }

  int pagesPerSequence() {
    return pagesPerSequence;
  }
}
