package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import dev.halter.model.SiteReader;
import java.util.ArrayList;
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
final class PairActivations {
  private final Llama model;
  private final boolean everyToken;
  private final SiteReader reader;
  private final Map<Site, Buffer> reference = new HashMap<>();
  private final Map<Site, Buffer> difference = new HashMap<>();
  private final int rows;

  /**
   * Runs pairs.
   *
   * @param scope that the values live in
   * @param everyToken whether every token of a prompt has a row, or only the last
   * @param references sites of which the reference's values are kept
   * @param differences sites of which counterfactual − reference is kept
   */
  PairActivations(
      Scope scope,
      Llama model,
      List<Pair> pairs,
      boolean everyToken,
      Set<Site> references,
      Set<Site> differences) {
    this.model = model;
    this.everyToken = everyToken;
    this.rows =
        everyToken ? pairs.stream().mapToInt(pair -> pair.reference().length).sum() : pairs.size();
    this.reader = new SiteReader(scope, model);
    references.forEach(site -> reference.put(site, scope.allocate(bytes(site, rows))));
    differences.forEach(site -> difference.put(site, scope.allocate(bytes(site, rows))));
    int firstRow = 0;
    for (int first = 0; first < pairs.size(); ) {
      List<Pair> rest = pairs.subList(first, pairs.size());
      try (Prefill.Sequences sequences =
          Prefill.Sequences.open(model.cache(), rest.stream().map(Pair::longest).toList())) {
        firstRow = run(rest.subList(0, sequences.count()), sequences, firstRow);
        first += sequences.count();
      }
    }
  }

  private long bytes(Site site, int count) {
    return 4L * count * site.width(model.config());
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

  /**
   * Runs pairs that fit the cache, whose values begin at {@code firstRow}; returns the next row.
   */
  private int run(List<Pair> pairs, Prefill.Sequences sequences, int firstRow) {
    List<Prefill.Prompt> references = new ArrayList<>();
    List<Prefill.Prompt> counterfactuals = new ArrayList<>();
    for (int i = 0; i < pairs.size(); i++) {
      Pair pair = pairs.get(i);
      references.add(new Prefill.Prompt(sequences.id(i), pair.reference(), 0));
      // In the reference's sequence, whose keys and values stand for what both begin with.
      counterfactuals.add(
          new Prefill.Prompt(
              sequences.id(i), pair.counterfactual(), everyToken ? 0 : pair.sharedPrefix()));
    }
    Steps ofReferences = new Steps(references, firstRow, false);
    Prefill.run(model, references, 0, ofReferences);
    if (!difference.isEmpty()) {
      Prefill.run(model, counterfactuals, 0, new Steps(counterfactuals, firstRow, true));
    }
    return ofReferences.nextRow;
  }

  /** Reads chosen rows of each step; those of one step follow those of the step before. */
  private final class Steps implements Prefill.Steps {
    private final List<Prefill.Prompt> prompts;
    private final boolean counterfactual;
    private int nextRow;

    Steps(List<Prefill.Prompt> prompts, int firstRow, boolean counterfactual) {
      this.prompts = prompts;
      this.nextRow = firstRow;
      this.counterfactual = counterfactual;
    }

    @Override
    public SiteHook begin(Batch batch, int firstPrompt) {
      IntStream.Builder chosen = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int last = prompts.get(firstPrompt + i).tokens().length - 1;
        for (int token = 0; token < span.length(); token++) {
          if (everyToken || span.position() + token == last) {
            chosen.add(span.firstRow() + token);
          }
        }
      }
      reader.begin();
      SiteReader.Rows step = reader.rows(chosen.build().toArray());
      int row = nextRow;
      nextRow += step.count();
      if (counterfactual) {
        reader.readChanges(difference.keySet(), step, from(difference, row));
      } else {
        reader.read(reference.keySet(), step, from(reference, row));
        reader.read(difference.keySet(), step, from(difference, row));
      }
      return reader;
    }

    private SiteReader.Room from(Map<Site, Buffer> values, int row) {
      return (site, bytes) -> values.get(site).slice(bytes(site, row), bytes);
    }
  }
}
