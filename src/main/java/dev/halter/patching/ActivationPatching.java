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
 * Activation patching: a site's value at one position of the counterfactual run put into the
 * reference run, everything after it recomputed, for every layer and position.
 *
 * <p>Unlike path patching nothing is frozen. A run begins at the patched block, and many cells go
 * through it as one ragged batch.
 */
public final class ActivationPatching {
  private final Site.Kind site;
  private final int heads; // 1 where they are patched together
  private final int positions;
  private final EffectSums sums; // layer by layer, head by head, position by position

  private ActivationPatching(Site.Kind site, int layers, int heads, int positions) {
    this.site = site;
    this.heads = heads;
    this.positions = positions;
    this.sums = new EffectSums(layers * heads * positions);
  }

  /**
   * Columns: the longest prompt's tokens. Prompts are aligned at their last token, which is the
   * last column.
   */
  public int positions() {
    return positions;
  }

  /**
   * The effect of a cell; all NaN for one that no pair has.
   *
   * @param head 0 unless heads were patched one by one
   * @param column 0 to {@link #positions} − 1
   */
  public Effects.Effect of(int layer, int head, int column) {
    return sums.of(cell(layer, head, column));
  }

  private int cell(int layer, int head, int column) {
    return (layer * heads + head) * positions + column;
  }

  /** Mean over pairs of the reference run's logit of the answer. */
  public double referenceLogit() {
    return sums.referenceLogit();
  }

  /** The reference runs as an effect: its deltas are 0. */
  public Effects.Effect reference() {
    return sums.reference();
  }

  /**
   * Patches every cell.
   *
   * @param site {@code hook_resid_pre}, {@code hook_z} or {@code hook_mlp_out}
   * @param perHead of hook_z: whether heads are patched one by one
   * @param progress hears of work done, in layers of pairs: of {@code pairs.size() · n_layers}
   * @throws IllegalArgumentException for another site, or a pair whose prompts differ in length
   */
  public static ActivationPatching of(
      Llama model,
      List<Pair> pairs,
      Site.Kind site,
      boolean perHead,
      boolean probability,
      IntConsumer progress) {
    if (site != Site.Kind.RESID_PRE && site != Site.Kind.Z && site != Site.Kind.MLP_OUT
        || perHead && site != Site.Kind.Z) {
      throw new IllegalArgumentException(
          "%s cannot be patched position by position: choose hook_resid_pre, hook_z or hook_mlp_out"
              .formatted(perHead ? "a head of " + site : site));
    }
    Pair.requireAligned(pairs);
    ModelConfig config = model.config();
    int longest = pairs.stream().mapToInt(Pair::longest).max().orElseThrow();
    int heads = perHead ? config.nHeads() : 1;
    ActivationPatching grid = new ActivationPatching(site, config.nLayers(), heads, longest);
    try (Scope scope = model.device().scope()) {
      Positionwise positionwise = new Positionwise(scope, model, PathRows.atOnce(model));
      for (int i = 0; i < pairs.size(); i++) {
        int before = i * config.nLayers();
        grid.patch(
            model,
            pairs.get(i),
            positionwise,
            probability,
            layers -> progress.accept(before + layers));
      }
    }
    return grid;
  }

  private void patch(
      Llama model,
      Pair pair,
      Positionwise positionwise,
      boolean probability,
      IntConsumer progress) {
    ModelConfig config = model.config();
    PatchKernels kernels = new PatchKernels(model);
    List<Pair> pairs = List.of(pair);
    Set<Site> references = new HashSet<>();
    Set<Site> differences = new HashSet<>();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      references.add(new Site(Site.Kind.RESID_PRE, layer));
      differences.add(new Site(site, layer));
    }
    try (Scope scope = model.device().scope()) {
      PairActivations activations =
          new PairActivations(scope, model, pairs, true, references, differences);
      PatchedRuns patched = new PatchedRuns(model, kernels, pairs, activations);
      int length = pair.reference().length;
      Buffer ends = scope.allocate(4L * (1 + heads * length) * config.dModel());
      for (int layer = 0; layer < config.nLayers(); layer++) {
        List<PatchedRuns.Run> runs = runs(config, layer, pair, activations);
        patched.run(layer, runs, ends);
        Run[] read =
            Readout.of(model, kernels, positionwise, ends, runs.size(), pairs, probability);
        if (layer == 0) {
          sums.addReference(read[0]);
        }
        for (int i = 1; i < read.length; i++) {
          int head = (i - 1) / length;
          int column = positions - length + (i - 1) % length;
          sums.add(cell(layer, head, column), read[0], read[i]);
        }
        progress.accept(layer + 1);
      }
    }
  }

  /** A run without a patch, then one for each cell of a layer: head by head, token by token. */
  private List<PatchedRuns.Run> runs(
      ModelConfig config, int layer, Pair pair, PairActivations activations) {
    Site from = new Site(site, layer);
    int width = from.width(config) / heads;
    // What the MLP adds is in the residual stream by the time that it is seen.
    Site to = site == Site.Kind.MLP_OUT ? new Site(Site.Kind.RESID_POST, layer) : from;
    PatchedRuns.Source source =
        new PatchedRuns.Source(to, activations.difference(from), width, true);
    List<PatchedRuns.Run> runs = new ArrayList<>();
    runs.add(new PatchedRuns.Run(0, List.of()));
    for (int head = 0; head < heads; head++) {
      for (int token = 0; token < pair.reference().length; token++) {
        // A source's rows are as wide as its patch: of z, head by head.
        int row = token * heads + head;
        runs.add(
            new PatchedRuns.Run(
                0, List.of(new PatchedRuns.Patch(source, head * width, token, 1, row))));
      }
    }
    return runs;
  }
}
