package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import dev.halter.model.Llama;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.patching.EffectSums.Run;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;

/**
 * Exact path patching from every head and MLP to the queries, keys or values of a set of heads, so
 * that a circuit can be followed back.
 *
 * <p>Source: Wang et al. (arXiv 2211.00593, appendix B). The sender's output, at every position, is
 * that of the counterfactual run, all other heads' that of the reference run, MLPs and norms are
 * recomputed; what the receivers get then is put into a run of the reference, all else of which
 * follows from it. That the sender is patched at every position rather than the last alone is our
 * choice: keys and values act from where they stand.
 *
 * <p>With all heads frozen tokens do not see one another, so that each token of each sender is a
 * row of its own up to the receivers' layers ({@link PathRows}); the run with the receivers set
 * begins at the first of these ({@link PatchedRuns}).
 */
public final class HeadToHead {
  private HeadToHead() {}

  /**
   * Sweeps all heads and MLPs below the last receiver's layer; those that reach no receiver were
   * tried on no pair.
   *
   * @param pairs whose prompts have as many tokens each
   * @param progress hears of work done, in layers of pairs: of {@code pairs.size() · n_layers}
   * @throws IllegalArgumentException if a pair's prompts differ in length, or a receiver is in the
   *     first layer
   */
  public static Effects of(
      Llama model,
      List<Pair> pairs,
      List<Receiver> receivers,
      boolean probability,
      IntConsumer progress) {
    int most = PathRows.atOnce(model);
    long bytes = PathRows.bytes(model.config(), last(receivers)) + 4L * model.config().dModel();
    long budget = Math.min(model.device().memory().free() / 2, 4L << 30);
    return of(model, pairs, receivers, probability, budget / bytes, most, progress);
  }

  /** As above, with pairs of so many tokens at once (one pair at least), and so many rows. */
  static Effects of(
      Llama model,
      List<Pair> pairs,
      List<Receiver> receivers,
      boolean probability,
      long tokensAtOnce,
      int rowsAtOnce,
      IntConsumer progress) {
    Pair.requireAligned(pairs);
    for (Receiver receiver : receivers) {
      if (receiver.head().layer() == 0) {
        throw new IllegalArgumentException(
            "receiver %s is in the first layer, where no head or MLP sends: choose later ones"
                .formatted(receiver));
      }
    }
    Effects effects = new Effects(model.config());
    try (Scope scope = model.device().scope()) {
      Positionwise positionwise = new Positionwise(scope, model, rowsAtOnce);
      for (int first = 0; first < pairs.size(); ) {
        long tokens = pairs.get(first).reference().length;
        int end = first + 1;
        while (end < pairs.size() && tokens + pairs.get(end).reference().length <= tokensAtOnce) {
          tokens += pairs.get(end++).reference().length;
        }
        sweep(model, pairs.subList(first, end), receivers, probability, positionwise, effects);
        progress.accept(end * model.config().nLayers());
        first = end;
      }
    }
    return effects;
  }

  private static int last(List<Receiver> receivers) {
    return receivers.stream().mapToInt(receiver -> receiver.head().layer()).max().orElseThrow();
  }

  private static void sweep(
      Llama model,
      List<Pair> pairs,
      List<Receiver> receivers,
      boolean probability,
      Positionwise positionwise,
      Effects effects) {
    ModelConfig config = model.config();
    PatchKernels kernels = new PatchKernels(model);
    int last = last(receivers);
    int first = receivers.stream().mapToInt(r -> r.head().layer()).min().orElseThrow();
    Site start = new Site(Site.Kind.RESID_MID, 0);
    Set<Site> references = new HashSet<>(PathRows.attention(last));
    references.add(start);
    references.add(new Site(Site.Kind.RESID_PRE, first));
    List<Received> received = new ArrayList<>();
    try (Scope scope = model.device().scope()) {
      PairActivations activations =
          new PairActivations(scope, model, pairs, true, references, PathRows.senders(last));
      int groups;
      try (Scope climbing = model.device().scope()) {
        PathRows rows = new PathRows(climbing, model, kernels, positionwise, activations, last);
        for (int layer = 0; layer <= last; layer++) {
          for (Receiver receiver : receivers) {
            if (receiver.head().layer() == layer) {
              received.add(receive(scope, model, positionwise, rows, receiver));
            }
          }
          if (layer == last) {
            break;
          }
          if (layer == 0) {
            rows.begin(start);
          } else {
            rows.addAttention(layer);
          }
          rows.joinHeads(layer);
          rows.addMlp(layer);
          rows.joinMlp(layer);
        }
        groups = rows.groups();
      }
      PatchedRuns patched = new PatchedRuns(model, kernels, pairs, activations);
      int[] offsets = PatchedRuns.offsets(pairs);
      List<PatchedRuns.Run> runs = new ArrayList<>();
      for (int group = 0; group < groups; group++) {
        for (int pair = 0; pair < pairs.size(); pair++) {
          runs.add(run(group, pair, pairs, received, activations.rows(), offsets[pair]));
        }
      }
      Buffer ends = scope.allocate(4L * runs.size() * config.dModel());
      patched.run(first, runs, ends);
      Run[] read = Readout.of(model, kernels, positionwise, ends, runs.size(), pairs, probability);
      for (int i = 0; i < read.length; i++) {
        Run reference = read[i % pairs.size()];
        if (i < pairs.size()) {
          effects.addReference(reference);
        } else {
          effects.add(i / pairs.size() - 1, reference, read[i]);
        }
      }
    }
  }

  /** What a receiver gets in each of the first groups of rows. */
  private record Received(PatchedRuns.Source source, int column, int groups) {}

  private static Received receive(
      Scope scope, Llama model, Positionwise positionwise, PathRows rows, Receiver receiver) {
    int dHead = model.config().dHead();
    int rowBytes = 4 * model.config().dModel();
    int place = receiver.place(model.config());
    Buffer values = scope.allocate(4L * rows.count() * dHead);
    for (int row = 0; row < rows.count(); row += positionwise.rows()) {
      int count = Math.min(positionwise.rows(), rows.count() - row);
      positionwise.headInput(
          receiver.site(),
          place,
          rows.x().slice((long) row * rowBytes),
          count,
          values.slice(4L * row * dHead));
    }
    return new Received(
        new PatchedRuns.Source(receiver.site(), values, dHead, false),
        place * dHead,
        rows.groups());
  }

  /**
   * A group's run of a pair. Receivers before the sender's layer get what they have anyway. Group
   * 0, without a sender, is set like the others, so that its logits come by the same arithmetic.
   */
  private static PatchedRuns.Run run(
      int group, int pair, List<Pair> pairs, List<Received> received, int n, int offset) {
    List<PatchedRuns.Patch> patches = new ArrayList<>();
    int length = pairs.get(pair).reference().length;
    for (Received at : received) {
      if (group < at.groups) {
        patches.add(new PatchedRuns.Patch(at.source, at.column, 0, length, group * n + offset));
      }
    }
    return new PatchedRuns.Run(pair, patches);
  }
}
