package dev.halter.patching;

import dev.halter.model.Head;
import dev.halter.patching.EffectSums.Run;
import dev.halter.weights.ModelConfig;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.Predicate;
import java.util.stream.DoubleStream;
import org.apache.commons.math3.stat.correlation.SpearmansCorrelation;

/**
 * What the patch of each head and each MLP of a model does to the answer, over pairs of prompts.
 * Logits are f32; means are over the pairs that a patch was tried on.
 *
 * <pre>{@code
 * Effects effects = PathPatching.of(model, pairs, Variant.RECOMPUTE, false, done -> {});
 * double delta = effects.of(new Head(5, 3)).delta();
 * effects.top(5).forEach(System.out::println);
 * }</pre>
 */
public final class Effects implements Serializable {
  private static final long serialVersionUID = 1L;

  /**
   * One patch's effect. {@code r} is a pair's logit of the answer in the reference run, {@code p}
   * that in the patched run.
   *
   * @param pairs that it was tried on
   * @param relative mean of (p − r) / r, as the arithmetic paper measures it (arXiv 2409.01659);
   *     whether it takes this mean or the next number is not known to us. A raw logit has no
   *     natural zero: both depend on where the model's logits happen to lie
   * @param delta mean of p − r
   * @param standardError of that mean
   * @param relativeOfMeans (mean p − mean r) / mean r
   * @param probability mean probability of the answer in the patched runs, NaN if not measured
   * @param logitDifference mean of answer − foil in the patched runs, over the pairs that have a
   *     foil (Wang et al. 2211.00593 measure by it); NaN if none has
   */
  public record Effect(
      int pairs,
      double relative,
      double delta,
      double standardError,
      double relativeOfMeans,
      double probability,
      double logitDifference) {}

  /**
   * A head or an MLP and its effect.
   *
   * @param head null where it is the MLP of the layer
   */
  public record Sender(int layer, Head head, Effect effect) {
    /** {@code 5.3} for a head, {@code mlp 5} for an MLP. */
    public String name() {
      return head == null ? "mlp " + layer : head.toString();
    }

    @Override
    public String toString() {
      return name() + ": " + effect;
    }
  }

  private final int layers;
  private final int heads;
  private final EffectSums sums; // layer by layer: of the heads, then of the MLP

  Effects(ModelConfig config) {
    this(
        config.nLayers(),
        config.nHeads(),
        new EffectSums(config.nLayers() * (config.nHeads() + 1)));
  }

  Effects(int layers, int heads, EffectSums sums) {
    this.layers = layers;
    this.heads = heads;
    this.sums = sums;
  }

  /** Layers of the model. */
  int layers() {
    return layers;
  }

  /** Heads of a layer. */
  int heads() {
    return heads;
  }

  EffectSums sums() {
    return sums;
  }

  /** Senders: heads and MLPs. */
  int size() {
    return sums.size();
  }

  /** These and those of other pairs, of the same patches; to the bit those of all at once. */
  public Effects plus(Effects others) {
    EffectSums all = new EffectSums(size());
    all.add(sums);
    all.add(others.sums);
    return new Effects(layers, heads, all);
  }

  /** Adds a pair's reference run. */
  void addReference(Run run) {
    sums.addReference(run);
  }

  /** Adds a pair's run under the patch of a sender, counted layer by layer, the MLP last. */
  void add(int sender, Run referenceRun, Run run) {
    sums.add(sender, referenceRun, run);
  }

  /**
   * Adds what was measured over other pairs of the model. Sums are exact: in whatever order and
   * parts pairs are added, means are the same to the bit.
   *
   * @throws IllegalArgumentException if the others are of a model with other layers or heads
   */
  public void add(Effects others) {
    if (others.layers != layers || others.heads != heads) {
      throw new IllegalArgumentException(
          "effects of %d layers of %d heads cannot be added to those of %d of %d"
              .formatted(others.layers, others.heads, layers, heads));
    }
    sums.add(others.sums);
  }

  /** Mean over pairs of the reference run's logit of the answer. */
  public double referenceLogit() {
    return sums.referenceLogit();
  }

  /** The reference runs as an effect: its deltas are 0. */
  public Effect reference() {
    return sums.reference();
  }

  /**
   * The effect of a head; all NaN for one that was tried on no pair.
   *
   * @throws IllegalArgumentException if the model has no such head
   */
  public Effect of(Head head) {
    if (head.layer() < 0 || head.layer() >= layers || head.head() < 0 || head.head() >= heads) {
      throw new IllegalArgumentException(
          "there is no head %s: layers are 0 to %d, heads 0 to %d"
              .formatted(head, layers - 1, heads - 1));
    }
    return sums.of(head.layer() * (heads + 1) + head.head());
  }

  /**
   * The effect of a layer's MLP; all NaN for one that was tried on no pair.
   *
   * @throws IllegalArgumentException if the model has no such layer
   */
  public Effect ofMlp(int layer) {
    if (layer < 0 || layer >= layers) {
      throw new IllegalArgumentException(
          "there is no layer %d: layers are 0 to %d".formatted(layer, layers - 1));
    }
    return sums.of(layer * (heads + 1) + heads);
  }

  /** Every head and MLP, layer by layer: the heads, then the MLP. */
  public List<Sender> all() {
    List<Sender> senders = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      for (int i = 0; i < heads; i++) {
        Head head = new Head(layer, i);
        senders.add(new Sender(layer, head, of(head)));
      }
      senders.add(new Sender(layer, null, ofMlp(layer)));
    }
    return senders;
  }

  /**
   * How alike the heads' order by delta is in other effects of the model: Spearman's rank
   * correlation, 1 for the same order; NaN where deltas are missing or all equal.
   */
  public double rankCorrelationOfHeads(Effects other) {
    return rankCorrelation(other, sender -> sender.head != null);
  }

  /** Likewise of the MLPs. */
  public double rankCorrelationOfMlps(Effects other) {
    return rankCorrelation(other, sender -> sender.head == null);
  }

  private double rankCorrelation(Effects other, Predicate<Sender> which) {
    double[] mine = deltas(which);
    double[] theirs = other.deltas(which);
    boolean isComplete =
        DoubleStream.concat(DoubleStream.of(mine), DoubleStream.of(theirs))
            .noneMatch(Double::isNaN);
    return isComplete && mine.length > 1
        ? new SpearmansCorrelation().correlation(mine, theirs)
        : Double.NaN;
  }

  private double[] deltas(Predicate<Sender> which) {
    return all().stream().filter(which).mapToDouble(sender -> sender.effect.delta()).toArray();
  }

  /**
   * The heads and MLPs that move the answer's logit most, up or down, largest |delta| first: {@code
   * count} of them, or as many as were tried.
   */
  public List<Sender> top(int count) {
    List<Sender> tried = new ArrayList<>(all());
    tried.removeIf(sender -> sender.effect.pairs() == 0);
    // Among equals heads come before MLPs.
    tried.sort(
        Comparator.<Sender>comparingDouble(sender -> -Math.abs(sender.effect.delta()))
            .thenComparing(sender -> sender.head == null));
    return List.copyOf(tried.subList(0, Math.min(count, tried.size())));
  }
}
