package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import dev.halter.model.SiteReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * References run again from a block on, with values put or added at some sites, many runs in a
 * ragged batch.
 */
final class PatchedRuns {
  /**
   * Values for a site.
   *
   * @param values [_, width] f32
   * @param adds whether they are added to what the run has there, or put in its place
   */
  record Source(Site site, Buffer values, int width, boolean adds) {}

  /**
   * Gives rows {@code row …} of a source to positions {@code position …} of a run.
   *
   * @param column of the site where the source's columns go
   */
  record Patch(Source source, int column, int position, int count, int row) {}

  /** One run of a pair's reference. */
  record Run(int pair, List<Patch> patches) {}

  private final Llama model;
  private final PatchKernels kernels;
  private final List<Pair> pairs;
  private final PairActivations activations;
  private final int[] offsets; // of the pairs' first tokens among the activations' rows

  /** Of pairs whose activations, of every token, have the reference's {@code hook_resid_pre}. */
  PatchedRuns(Llama model, PatchKernels kernels, List<Pair> pairs, PairActivations activations) {
    this.model = model;
    this.kernels = kernels;
    this.pairs = pairs;
    this.activations = activations;
    this.offsets = offsets(pairs);
  }

  /** Where each pair's tokens begin among those of all references. */
  static int[] offsets(List<Pair> pairs) {
    int[] offsets = new int[pairs.size()];
    for (int i = 1; i < offsets.length; i++) {
      offsets[i] = offsets[i - 1] + pairs.get(i - 1).reference().length;
    }
    return offsets;
  }

  /** Runs from a block on; the last tokens' residual streams go to ends [runs, d_model] f32. */
  void run(int firstLayer, List<Run> runs, Buffer ends) {
    for (int first = 0; first < runs.size(); ) {
      List<Run> rest = runs.subList(first, runs.size());
      List<int[]> prompts = rest.stream().map(run -> pairs.get(run.pair).reference()).toList();
      try (Scope scope = model.device().scope();
          Prefill.Sequences sequences =
              Prefill.Sequences.open(
                  model.cache(), prompts.stream().map(prompt -> prompt.length).toList())) {
        List<Prefill.Prompt> together = new ArrayList<>();
        for (int i = 0; i < sequences.count(); i++) {
          together.add(new Prefill.Prompt(sequences.id(i), prompts.get(i), 0));
        }
        Buffer here = ends.slice(4L * first * dModel());
        Prefill.run(model, together, firstLayer, new Patching(scope, firstLayer, rest, here));
        first += sequences.count();
      }
    }
  }

  private int dModel() {
    return model.config().dModel();
  }

  /** Gives a step's rows their start, their patches, and keeps their ends. */
  private final class Patching implements Prefill.Steps, SiteHook {
    private final Site start;
    private final Site end = new Site(Site.Kind.RESID_POST, model.config().nLayers() - 1);
    private final List<Run> runs;
    private final Buffer ends;
    private final SiteReader reader;
    private final Buffer startRows; // of the activations
    private final List<Source> sources;
    private Batch batch;
    private int firstRun;
    private int done;

    Patching(Scope scope, int firstLayer, List<Run> runs, Buffer ends) {
      this.reader = new SiteReader(scope, model);
      this.startRows = scope.allocate(4L * model.limits().rows());
      this.start = new Site(Site.Kind.RESID_PRE, firstLayer);
      this.runs = runs;
      this.ends = ends;
      this.sources =
          runs.stream().flatMap(run -> run.patches.stream()).map(Patch::source).distinct().toList();
    }

    @Override
    public SiteHook begin(Batch next, int firstPrompt) {
      batch = next;
      firstRun = firstPrompt;
      readEnds();
      return this;
    }

    @Override
    public boolean wants(Site site) {
      return site.equals(start)
          || reader.wants(site)
          || sources.stream().anyMatch(source -> source.site.equals(site));
    }

    @Override
    public void at(Site site, Matrix values) {
      if (site.equals(start)) {
        start(values);
      }
      for (Source source : sources) {
        if (source.site.equals(site)) {
          patch(source, values);
        }
      }
      if (reader.wants(site)) {
        reader.at(site, values);
      }
    }

    private void start(Matrix x) {
      IntStream.Builder rows = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int from = offsets[runs.get(firstRun + i).pair] + span.position();
        IntStream.range(from, from + span.length()).forEach(rows::add);
      }
      startRows.set(rows.build().toArray());
      kernels.gather(x.buffer(), activations.reference(start), startRows, batch.rows());
    }

    private void patch(Source source, Matrix values) {
      IntStream.Builder cells = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        for (Patch patch : runs.get(firstRun + i).patches) {
          if (patch.source.equals(source)) {
            int from = Math.max(patch.position, span.position());
            int to = Math.min(patch.position + patch.count, span.position() + span.length());
            for (int position = from; position < to; position++) {
              cells.add(span.firstRow() + position - span.position());
              cells.add(patch.column);
              cells.add(patch.row + position - patch.position);
            }
          }
        }
      }
      int[] list = cells.build().toArray();
      if (list.length > 0) {
        try (Buffer where = model.device().allocate(4L * list.length)) {
          where.set(list);
          kernels.put(values, source.values, where, list.length / 3, source.width, source.adds);
        }
      }
    }

    /** The step's last tokens of runs are read after the last block. */
    private void readEnds() {
      IntStream.Builder rows = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int length = pairs.get(runs.get(firstRun + i).pair).reference().length;
        if (span.position() + span.length() == length) {
          rows.add(span.firstRow() + span.length() - 1);
        }
      }
      reader.begin();
      SiteReader.Rows last = reader.rows(rows.build().toArray());
      int firstEnd = done;
      done += last.count();
      reader.read(Set.of(end), last, (site, bytes) -> ends.slice(4L * firstEnd * dModel(), bytes));
    }
  }
}
