package dev.halter.heads;

import dev.halter.generation.LanguageModel;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.steering.HeadControl;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Outputs z of heads on prompts that show a behaviour and on prompts that do not, and the maps that
 * carry the second into the first.
 *
 * <p>Which tokens Sparse Activation Control (arXiv 2411.02461) takes its samples from could not be
 * read; here it is each prompt's last token, and if wanted the tokens of an answer (our inference).
 */
public final class HeadFit {
  private final LanguageModel model;
  private final Map<Site, List<float[]>> positive; // rows [n_heads, d_head]
  private final Map<Site, List<float[]>> negative;
  private final int positivePrompts;
  private final int negativePrompts;

  /**
   * Reads all heads of the layers of {@code heads}.
   *
   * @param answerTokens 0 to take samples at each prompt's last token alone; otherwise at so many
   *     tokens of an answer too: the greedy one to the positive prompt, which the negative prompt
   *     at the same place is read with as well, so that the sides differ in what comes before
   * @throws IllegalArgumentException if answers are read and there are not as many prompts of both
   */
  public HeadFit(
      LanguageModel model,
      Collection<Head> heads,
      List<int[]> positive,
      List<int[]> negative,
      int answerTokens) {
    this(
        model,
        heads,
        answerTokens == 0
            ? Sides.end(positive, negative)
            : Sides.answered(model, positive, negative, answerTokens));
  }

  public HeadFit(LanguageModel model, Collection<Head> heads, Sides sides) {
    this.model = model;
    this.positivePrompts = sides.positive().size();
    this.negativePrompts = sides.negative().size();
    Set<Site> sites = new LinkedHashSet<>();
    heads.forEach(head -> sites.add(site(head)));
    this.positive = ContrastRows.read(model.engine(), sites, sides.positive());
    this.negative = ContrastRows.read(model.engine(), sites, sides.negative());
  }

  private HeadFit(
      LanguageModel model,
      Map<Site, List<float[]>> positive,
      Map<Site, List<float[]>> negative,
      int positivePrompts,
      int negativePrompts) {
    this.model = model;
    this.positive = positive;
    this.negative = negative;
    this.positivePrompts = positivePrompts;
    this.negativePrompts = negativePrompts;
  }

  /** The samples of several tasks as one's, so that a head of all of them can have one map. */
  public static HeadFit merged(List<HeadFit> fits) {
    Map<Site, List<float[]>> positive = new LinkedHashMap<>();
    Map<Site, List<float[]>> negative = new LinkedHashMap<>();
    int positivePrompts = 0;
    int negativePrompts = 0;
    for (HeadFit fit : fits) {
      fit.positive.forEach(
          (site, rows) -> positive.computeIfAbsent(site, s -> new ArrayList<>()).addAll(rows));
      fit.negative.forEach(
          (site, rows) -> negative.computeIfAbsent(site, s -> new ArrayList<>()).addAll(rows));
      positivePrompts += fit.positivePrompts;
      negativePrompts += fit.negativePrompts;
    }
    return new HeadFit(fits.getFirst().model, positive, negative, positivePrompts, negativePrompts);
  }

  private static Site site(Head head) {
    return new Site(Site.Kind.Z, head.layer());
  }

  /**
   * A map for each of some heads.
   *
   * @param shrinkage ρ in [0, 1], of the covariances
   * @throws IllegalArgumentException naming the head whose covariance is singular, or whose samples
   *     are no pairs where the method wants them
   */
  public HeadControl control(List<Head> heads, Method method, double shrinkage) {
    int d = model.config().dHead();
    float[] a = new float[heads.size() * d * d];
    float[] b = new float[heads.size() * d];
    int samples = 0;
    for (int i = 0; i < heads.size(); i++) {
      Head head = heads.get(i);
      GaussianTransform map;
      try {
        List<float[]> from = samples(negative, head);
        List<float[]> to = samples(positive, head);
        samples = from.size() + to.size();
        map = GaussianTransform.of(from, to, method, shrinkage);
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException("head " + head + ": " + e.getMessage(), e);
      }
      for (int row = 0; row < d; row++) {
        for (int column = 0; column < d; column++) {
          a[(i * d + row) * d + column] = (float) map.a().getEntry(row, column);
        }
        b[i * d + row] = (float) map.b()[row];
      }
    }
    Map<String, String> facts =
        Map.of(
            "method", method.name().toLowerCase(Locale.ROOT),
            "shrinkage", Double.toString(shrinkage),
            "positive_prompts", Integer.toString(positivePrompts),
            "negative_prompts", Integer.toString(negativePrompts),
            "samples", Integer.toString(samples));
    return new HeadControl(model.llama().fingerprint(), facts, heads, a, b);
  }

  /** A head's part of the rows of its layer. */
  private List<float[]> samples(Map<Site, List<float[]>> rows, Head head) {
    int d = model.config().dHead();
    List<float[]> samples = new ArrayList<>();
    for (float[] row : rows.get(site(head))) {
      samples.add(Arrays.copyOfRange(row, head.head() * d, (head.head() + 1) * d));
    }
    return samples;
  }
}
