package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Matrix;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
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
  private final PairActivations recording;
  private final int[] offsets; // of the pairs' first tokens among the recording's rows

  /** Of pairs whose recording, of every token, has the reference's {@code hook_resid_pre}. */
  PatchedRuns(Llama model, PatchKernels kernels, List<Pair> pairs, PairActivations recording) {
    this.model = model;
    this.kernels = kernels;
    this.pairs = pairs;
    this.recording = recording;
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
      int[] sequences =
          Prefill.open(model.cache(), prompts.stream().map(prompt -> prompt.length).toList());
      try (Hook hook = new Hook(firstLayer, rest, ends.slice(4L * first * dModel()))) {
        List<Prefill.Prompt> some = new ArrayList<>();
        for (int i = 0; i < sequences.length; i++) {
          some.add(new Prefill.Prompt(sequences[i], prompts.get(i), 0));
        }
        Prefill.run(model, some, firstLayer, hook);
      } finally {
        Arrays.stream(sequences).forEach(model.cache()::release);
      }
      first += sequences.length;
    }
  }

  private int dModel() {
    return model.config().dModel();
  }

  /** Gives a step's rows their start, their patches, and keeps their ends. */
  private final class Hook implements Prefill.StepHook, AutoCloseable {
    private final Site start;
    private final Site end = new Site(Site.Kind.RESID_POST, model.config().nLayers() - 1);
    private final List<Run> runs;
    private final Buffer ends;
    private final Buffer index = model.device().allocate(4L * model.limits().rows());
    private final List<Source> sources;
    private Batch batch;
    private int firstRun;
    private int done;

    Hook(int firstLayer, List<Run> runs, Buffer ends) {
      this.start = new Site(Site.Kind.RESID_PRE, firstLayer);
      this.runs = runs;
      this.ends = ends;
      this.sources =
          runs.stream().flatMap(run -> run.patches.stream()).map(Patch::source).distinct().toList();
    }

    @Override
    public void begin(Batch next, int firstPrompt) {
      batch = next;
      firstRun = firstPrompt;
    }

    @Override
    public boolean wants(Site site) {
      return site.equals(start)
          || site.equals(end)
          || sources.stream().anyMatch(source -> source.site.equals(site));
    }

    @Override
    public void at(Site site, Matrix values) {
      if (site.equals(start)) {
        begin(values);
      }
      for (Source source : sources) {
        if (source.site.equals(site)) {
          patch(source, values);
        }
      }
      if (site.equals(end)) {
        keep(values);
      }
    }

    private void begin(Matrix x) {
      IntStream.Builder rows = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int from = offsets[runs.get(firstRun + i).pair] + span.position();
        IntStream.range(from, from + span.length()).forEach(rows::add);
      }
      index.set(rows.build().toArray());
      Buffer to = x.buffer().slice(0, 4L * batch.rows() * dModel());
      to.clear();
      Matrix from = new Matrix(recording.reference(start), DType.F32, dModel());
      kernels.take(to, from, index, batch.rows(), dModel(), 1);
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

    private void keep(Matrix x) {
      IntStream.Builder rows = IntStream.builder();
      for (int i = 0; i < batch.spans().size(); i++) {
        Batch.Span span = batch.spans().get(i);
        int length = pairs.get(runs.get(firstRun + i).pair).reference().length;
        if (span.position() + span.length() == length) {
          rows.add(span.firstRow() + span.length() - 1);
        }
      }
      int[] last = rows.build().toArray();
      if (last.length > 0) {
        index.set(last);
        Buffer to = ends.slice(4L * done * dModel(), 4L * last.length * dModel());
        to.clear();
        kernels.take(to, x, index, last.length, dModel(), 1);
        done += last.length;
      }
    }

    @Override
    public void end() {}

    @Override
    public void close() {
      index.close();
    }
  }
}
