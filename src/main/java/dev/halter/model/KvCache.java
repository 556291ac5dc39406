package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * Keys and values of all sequences, in pages of {@value #PAGE} tokens that sequences take as they
 * grow and give back when they end. A page holds, for each layer and KV head, keys as [d_head,
 * {@value #PAGE}] and values as [{@value #PAGE}, d_head].
 *
 * <p>Beginnings that sequences have in common need to be read once: {@link #keep} makes what a
 * sequence holds known by its tokens and by what edits did to them, and {@link #share} gives it to
 * another, whole pages as they are and of the page where the two part a copy ({@link
 * Beginning#sharable} says of what). What is known outlives its sequence; where pages run short,
 * those that were unused for longest go first.
 */
public final class KvCache {
  /** Tokens per page; the kernels' constant. */
  public static final int PAGE = 64;

  /** Least number of tokens that are had from others: fewer are sooner read than copied. */
  public static final int WORTH_SHARING = 16;

  private static final int COPY_BLOCK = 128;

  /** Packs of 16 bytes of an array that a block copies. */
  private static final int COPY_CHUNK = 8 * COPY_BLOCK;

  private final List<Buffer> keys = new ArrayList<>();
  private final List<Buffer> values = new ArrayList<>();
  private final Buffer pageTable;
  private final int pagesPerSequence;
  private final int[] table;
  private final int[] pagesHeld;
  private final Deque<Integer> freePages = new ArrayDeque<>();
  private final Deque<Integer> freeSequences = new ArrayDeque<>();
  private final int pages;
  private final int[] holders; // of each page: sequences, and the tree of known beginnings
  private final boolean[] kept; // pages that the tree holds
  private final PrefixTree known = new PrefixTree();
  private int keptAlone; // pages that only the tree holds, or the lower layers
  private BooleanSupplier spares = () -> false; // gives a page of the lower layers back
  private final long pageBytes; // of keys, or of values, in one layer
  private final Device device;
  private final Kernel copyPage;
  private final Buffer addresses; // long[layers][2]: of keys and values
  private final PageMaps maps;
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
    this.holders = new int[pages];
    this.kept = new boolean[pages];
    this.pageBytes = pageBytes(config, type) / 2 / config.nLayers();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      keys.add(scope.allocate(pages * pageBytes));
      values.add(scope.allocate(pages * pageBytes));
    }
    this.maps = new PageMaps(scope.device(), config, pages, keys, values);
    this.pageTable = scope.allocate(4L * table.length);
    this.device = scope.device();
    this.copyPage = device.kernel("copy_page");
    this.addresses = scope.allocate(8L * 2 * config.nLayers());
    addresses.copyFrom(
        MemorySegment.ofArray(
            IntStream.range(0, config.nLayers())
                .boxed()
                .flatMap(layer -> Stream.of(keys.get(layer), values.get(layer)))
                .mapToLong(Buffer::address)
                .toArray()));
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

  /** How many of so many equal tokens, to which nothing is done, are had from others. */
  public static int shared(int tokens) {
    int part = tokens % PAGE;
    return part < WORTH_SHARING ? tokens - part : tokens;
  }

  /** Opens an empty sequence. */
  public int open() {
    return freeSequences.removeFirst();
  }

  /** Sequences that can still be opened. */
  public int sequencesFree() {
    return freeSequences.size();
  }

  /** Pages that no sequence holds; some may hold known beginnings until they are needed. */
  public int pagesFree() {
    return freePages.size() + keptAlone;
  }

  public int pages() {
    return pages;
  }

  /** The pages that hold nothing; tests spoil them. */
  IntStream empty() {
    return freePages.stream().mapToInt(Integer::intValue);
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
    if (needed - pagesHeld[sequence] > pagesFree()) {
      return false;
    }
    while (pagesHeld[sequence] < needed) {
      int page = takePage();
      holders[page] = 1;
      table[place(sequence, pagesHeld[sequence]++)] = page;
      changed = true;
    }
    return true;
  }

  private int place(int sequence, int index) {
    return sequence * pagesPerSequence + index;
  }

  private int takePage() {
    findPage();
    return freePages.removeFirst();
  }

  /** Sees to it that a page is empty; false if there is none. */
  private boolean findPage() {
    if (freePages.isEmpty()) {
      PrefixTree.Node oldest = known.oldest(page -> holders[page] == 1);
      if (oldest == null) {
        return spares.getAsBoolean();
      }
      forget(oldest);
    }
    return true;
  }

  /** Who gives a page back by {@link #giveBack} when no other is left; false if it has none. */
  void sparesLast(BooleanSupplier spares) {
    this.spares = spares;
  }

  /** A page that no sequence holds, which counts as free all the same; -1 if there is none. */
  int lend() {
    if (!findPage()) {
      return -1;
    }
    int page = takePage();
    holders[page] = 1;
    keptAlone++;
    return page;
  }

  /** Takes a page back that was lent. */
  void giveBack(int page) {
    holders[page] = 0;
    keptAlone--;
    freePages.addFirst(page);
  }

  /** The page that holds a sequence's tokens from number {@code index · PAGE} on. */
  public int page(int sequence, int index) {
    return table[place(sequence, index)];
  }

  /** How many of the first {@code count} pages of two sequences are the same, from the first on. */
  int commonPages(int one, int other, int count) {
    int a = place(one, 0);
    int b = place(other, 0);
    int common = Arrays.mismatch(table, a, a + count, table, b, b + count);
    return common < 0 ? count : common;
  }

  /** Ends a sequence and frees its pages. */
  public void release(int sequence) {
    for (int i = pagesHeld[sequence] - 1; i >= 0; i--) {
      letGo(table[place(sequence, i)]);
    }
    Arrays.fill(table, place(sequence, 0), place(sequence, pagesHeld[sequence]), 0);
    pagesHeld[sequence] = 0;
    freeSequences.addFirst(sequence);
  }

  /** How much of a sequence's beginning is known: what {@link #share} would give. */
  public int known(Beginning tokens) {
    return match(tokens).tokens();
  }

  private PrefixTree.Match match(Beginning tokens) {
    PrefixTree.Match match = known.match(tokens);
    int part = tokens.sharable(match.tokens()) % PAGE;
    return part < WORTH_SHARING
        ? new PrefixTree.Match(match.full(), null, 0)
        : new PrefixTree.Match(match.full(), match.part(), part);
  }

  /**
   * Gives a sequence the keys and values of the longest known beginning of its tokens.
   *
   * @param sequence with room reserved for the tokens, and none read yet
   * @param tokens of it; the last of a prompt is better left out, since its logits are only had by
   *     reading it
   * @return how many of them it has, from its first on
   */
  public int share(int sequence, Beginning tokens) {
    PrefixTree.Match match = match(tokens);
    for (int i = 0; i < match.full().size(); i++) {
      hold(sequence, i, match.full().get(i).page);
    }
    if (match.part() != null) {
      copyPage(match.part().page, table[place(sequence, match.full().size())], keys.size());
      known.use(match.part());
    } else if (!match.full().isEmpty()) {
      known.use(match.full().getLast());
    }
    return match.tokens();
  }

  /** Lets a sequence hold a known page in place of its own. */
  private void hold(int sequence, int index, int page) {
    int place = place(sequence, index);
    if (table[place] == page) {
      return;
    }
    if (holders[page]++ == 1) {
      keptAlone--;
    }
    letGo(table[place]);
    table[place] = page;
    changed = true;
  }

  private void letGo(int page) {
    holders[page]--;
    if (holders[page] == 0) {
      freePages.addFirst(page);
    } else if (holders[page] == 1 && kept[page]) {
      keptAlone++;
    }
  }

  /** Copies the keys and values of the first {@code layers} layers from a page to another. */
  void copyPage(int from, int to, int layers) {
    int packs = Math.toIntExact(pageBytes / 16);
    int arrays = 2 * layers;
    device.launch(
        copyPage,
        2L * arrays * pageBytes,
        Grid.of(arrays, Math.ceilDiv(packs, COPY_CHUNK)),
        COPY_BLOCK,
        0,
        addresses,
        packs,
        from,
        to);
  }

  /**
   * Makes what a sequence holds known. It may grow on, behind these tokens; pages that were known
   * already take the place of its own.
   *
   * @param tokens of it, all of which it has read
   */
  public void keep(int sequence, Beginning tokens) {
    PrefixTree.Node parent = null;
    for (int i = 0; i < pagesFor(tokens.length()); i++) {
      Beginning held = tokens.page(i);
      int page = table[place(sequence, i)];
      PrefixTree.Node node = known.along(parent, held);
      if (node != null && node.tokens.length() < held.length()) {
        forget(node); // what was known is the beginning of what this page holds
        node = null;
      }
      if (node == null) {
        node = known.add(parent, held, page);
        kept[page] = true;
        holders[page]++;
      } else if (held.length() == PAGE) {
        hold(sequence, i, node.page);
      }
      parent = node;
    }
    known.use(parent);
  }

  private void forget(PrefixTree.Node leaf) {
    known.remove(leaf);
    int page = leaf.page;
    kept[page] = false;
    if (--holders[page] == 0) {
      keptAlone--;
      freePages.addFirst(page);
    }
  }

  Buffer keys(int layer) {
    return keys.get(layer);
  }

  Buffer values(int layer) {
    return values.get(layer);
  }

  /** What tensor copies have to know of keys and values. */
  PageMaps maps() {
    return maps;
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
