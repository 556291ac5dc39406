package dev.halter.heads;

import dev.halter.device.Buffer;
import dev.halter.device.Matrix;
import dev.halter.model.Batch;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What pairs of prompts leave at chosen sites, on the device: of some sites the reference's values,
 * of others the counterfactual's minus the reference's. Either of the last token alone, where the
 * prompts of a pair may differ in length, or of every token.
 */
final class Recording implements AutoCloseable {
  private final Llama model;
  private final PatchKernels kernels;
  private final boolean everyToken;
  private final Map<Site, Buffer> reference = new HashMap<>();
  private final Map<Site, Buffer> difference = new HashMap<>();
  private final Buffer index;
  private final int rows;

  /**
   * Runs pairs.
   *
   * @param everyToken whether every token of a prompt has a row, or only the last
   * @param references sites of which the reference's values are kept
   * @param differences sites of which counterfactual − reference is kept
   */
  Recording(
      Llama model,
      PatchKernels kernels,
      List<Pair> pairs,
      boolean everyToken,
      Set<Site> references,
      Set<Site> differences) {
    this.model = model;
    this.kernels = kernels;
    this.everyToken = everyToken;
    this.rows =
        everyToken ? pairs.stream().mapToInt(pair -> pair.reference().length).sum() : pairs.size();
    this.index = model.device().allocate(4L * model.limits().rows());
    references.forEach(site -> reference.put(site, cleared(site)));
    differences.forEach(site -> difference.put(site, cleared(site)));
    int at = 0;
    for (int first = 0; first < pairs.size(); ) {
      int count = roomFor(pairs.subList(first, pairs.size()));
      at = run(pairs.subList(first, first + count), at);
      first += count;
    }
  }

  private Buffer cleared(Site site) {
    Buffer buffer = model.device().allocate(4L * rows * site.width(model.config()));
    buffer.clear();
    return buffer;
  }

  /** The reference's values of a site, [rows, width] f32, in the order of pairs and tokens. */
  Buffer reference(Site site) {
    return reference.get(site);
  }

  /** Counterfactual − reference at a site, likewise. */
  Buffer difference(Site site) {
    return difference.get(site);
  }

  /** Rows of each site. */
  int rows() {
    return rows;
  }

  /** How many of the pairs' longer prompts fit the cache at once; at least one. */
  private int roomFor(List<Pair> pairs) {
    int pages = model.cache().pagesFree();
    int count = 0;
    while (count < pairs.size() && count < model.cache().sequencesFree()) {
      pages -= KvCache.pagesFor(longest(pairs.get(count)));
      if (pages < 0) {
        break;
      }
      count++;
    }
    return Math.max(1, count);
  }

  private static int longest(Pair pair) {
    return Math.max(pair.reference().length, pair.counterfactual().length);
  }

  /** Runs pairs that fit the cache, whose values begin at row {@code at}; returns the next row. */
  private int run(List<Pair> pairs, int at) {
    KvCache cache = model.cache();
    List<Integer> sequences = new ArrayList<>();
    try {
      for (Pair pair : pairs) {
        sequences.add(cache.open());
        cache.reserve(sequences.getLast(), longest(pair));
      }
      List<Prompt> references = new ArrayList<>();
      List<Prompt> counterfactuals = new ArrayList<>();
      for (int i = 0; i < pairs.size(); i++) {
        Pair pair = pairs.get(i);
        references.add(new Prompt(sequences.get(i), pair.reference(), 0));
        // In the reference's sequence, whose keys and values stand for what both begin with.
        counterfactuals.add(
            new Prompt(
                sequences.get(i), pair.counterfactual(), everyToken ? 0 : pair.sharedPrefix()));
      }
      int next = run(references, new Hook(at, false));
      if (!difference.isEmpty()) {
        run(counterfactuals, new Hook(at, true));
      }
      return next;
    } finally {
      sequences.forEach(cache::release);
    }
  }

  /** Tokens of a sequence, of which those before {@code first} are in the cache. */
  private record Prompt(int sequence, int[] tokens, int first) {}

  private int run(List<Prompt> prompts, Hook hook) {
    int most = model.limits().rows();
    int prompt = 0;
    int token = prompts.getFirst().first;
    while (prompt < prompts.size()) {
      Batch batch = new Batch();
      List<Integer> taken = new ArrayList<>();
      while (prompt < prompts.size() && batch.rows() < most) {
        Prompt p = prompts.get(prompt);
        int end = Math.min(p.tokens.length, token + most - batch.rows());
        for (int i = everyToken ? token : p.tokens.length - 1; i < end; i++) {
          taken.add(batch.rows() + i - token);
        }
        int[] tokens = Arrays.copyOfRange(p.tokens, token, end);
        batch.add(p.sequence, token, tokens, new int[tokens.length], tokens.length, null);
        token = end;
        if (token == p.tokens.length && ++prompt < prompts.size()) {
          token = prompts.get(prompt).first;
        }
      }
      hook.begin(taken);
      model.forward(batch, hook, 0);
      hook.end();
    }
    return hook.at;
  }

  /** Takes chosen rows of each step; those of one step follow those of the step before. */
  private final class Hook implements SiteHook {
    private final boolean counterfactual;
    private int at;
    private int count;

    Hook(int at, boolean counterfactual) {
      this.at = at;
      this.counterfactual = counterfactual;
    }

    void begin(List<Integer> rowsTaken) {
      count = rowsTaken.size();
      index.set(rowsTaken.stream().mapToInt(Integer::intValue).toArray());
    }

    void end() {
      at += count;
    }

    @Override
    public boolean wants(Site site) {
      return count > 0
          && (difference.containsKey(site) || !counterfactual && reference.containsKey(site));
    }

    @Override
    public void at(Site site, Matrix from) {
      if (!counterfactual) {
        take(reference.get(site), site, from, 1);
      }
      take(difference.get(site), site, from, counterfactual ? 1 : -1);
    }

    private void take(Buffer to, Site site, Matrix from, float factor) {
      if (to != null) {
        int width = site.width(model.config());
        kernels.take(to.slice(4L * at * width), from, index, count, width, factor);
      }
    }
  }

  @Override
  public void close() {
    reference.values().forEach(Buffer::close);
    difference.values().forEach(Buffer::close);
    index.close();
  }
}
