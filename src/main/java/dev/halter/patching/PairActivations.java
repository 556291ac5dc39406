package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.Matrix;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * What pairs of prompts leave at chosen sites, on the device: of some sites the reference's values,
 * of others the counterfactual's minus the reference's. Either of the last token alone, where the
 * prompts of a pair may differ in length, or of every token.
 */
final class PairActivations implements AutoCloseable {
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
  PairActivations(
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
      List<Pair> rest = pairs.subList(first, pairs.size());
      int[] sequences = Prefill.open(model.cache(), rest.stream().map(Pair::longest).toList());
      try {
        at = run(rest.subList(0, sequences.length), sequences, at);
      } finally {
        Arrays.stream(sequences).forEach(model.cache()::release);
      }
      first += sequences.length;
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

  /** Runs pairs that fit the cache, whose values begin at row {@code at}; returns the next row. */
  private int run(List<Pair> pairs, int[] sequences, int at) {
    List<Prefill.Prompt> references = new ArrayList<>();
    List<Prefill.Prompt> counterfactuals = new ArrayList<>();
    for (int i = 0; i < pairs.size(); i++) {
      Pair pair = pairs.get(i);
      references.add(new Prefill.Prompt(sequences[i], pair.reference(), 0));
      // In the reference's sequence, whose keys and values stand for what both begin with.
      counterfactuals.add(
          new Prefill.Prompt(
              sequences[i], pair.counterfactual(), everyToken ? 0 : pair.sharedPrefix()));
    }
    Hook ofReference = new Hook(references, at, false);
    Prefill.run(model, references, 0, ofReference);
    if (!difference.isEmpty()) {
      Prefill.run(model, counterfactuals, 0, new Hook(counterfactuals, at, true));
    }
    return ofReference.at;
  }

  /** Takes chosen rows of each step; those of one step follow those of the step before. */
  private final class Hook implements Prefill.StepHook {
    private final List<Prefill.Prompt> prompts;
    private final boolean counterfactual;
    private int at;
    private int count;

    Hook(List<Prefill.Prompt> prompts, int at, boolean counterfactual) {
      this.prompts = prompts;
      this.at = at;
      this.counterfactual = counterfactual;
    }

    @Override
    public void begin(Batch batch, int firstPrompt) {
      IntStream.Builder taken = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int last = prompts.get(firstPrompt + i).tokens().length - 1;
        for (int token = 0; token < span.length(); token++) {
          if (everyToken || span.position() + token == last) {
            taken.add(span.firstRow() + token);
          }
        }
      }
      int[] rowsTaken = taken.build().toArray();
      count = rowsTaken.length;
      index.set(rowsTaken);
    }

    @Override
    public void end() {
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
