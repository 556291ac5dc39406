package dev.halter.concepts;

import dev.halter.device.DType;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.ContrastRows;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.model.Site;
import dev.halter.weights.ControlVector;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.Supplier;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.commons.math3.linear.Array2DRowRealMatrix;
import org.apache.commons.math3.linear.ArrayRealVector;
import org.apache.commons.math3.linear.EigenDecomposition;
import org.apache.commons.math3.linear.RealMatrix;
import org.apache.commons.math3.linear.RealVector;

/**
 * Control vectors made of two sides of a behaviour: for each site the direction in which the
 * activations of the positive prompts' last tokens differ from the negative prompts'.
 *
 * <p>A vector is written with what is needed to judge it: how far the sides lie apart along it, how
 * long activations are there, and how well it tells the sides apart, also on prompts that it was
 * not fitted on.
 */
public final class ControlVectorFit {

  /** Differences of the sides shorter than this share of the activations are rounding. */
  private static final double NOTHING = 1e-6;

  /** How a direction is taken out of the two sides. */
  public enum Method {
    /** Mean of the positive activations less mean of the negative ones. */
    MEAN,
    /**
     * First principal component of pairs about their midpoints, which is that of the pairs'
     * differences about zero: repeng's {@code pca_center} and what llama.cpp's cvector-generator
     * computes. (repeng's {@code pca_diff} takes the mean difference away first, and with it what
     * all pairs have in common.) It points to where the positive side's mean lies.
     */
    PCA
  }

  /** How long a direction is made. */
  public enum Length {
    /** As far as the sides' means lie apart along it: scale 1 carries one onto the other. */
    GAP,
    /** 1, as repeng and cvector-generator write theirs. */
    UNIT
  }

  /**
   * How well projections on a direction tell the sides apart.
   *
   * @param auc share of all couples of a positive and a negative prompt in which the positive one
   *     projects higher, ties as half: the area under the ROC curve, 0.5 for no difference
   * @param accuracy share of prompts on their side of the point midway between the fitted sides'
   *     means
   */
  public record Separation(double auc, double accuracy) {}

  /**
   * What was fitted of one site.
   *
   * @param direction [d_model], of the length asked for
   * @param gap how far the sides' means lie apart along it
   * @param activationNorm mean norm of the activations of both sides
   * @param explained for PCA the share of the pairs' squared differences that lies along it
   * @param threshold projection midway between the sides' means
   * @param fitted on the prompts that it was made of
   */
  public record SiteFit(
      Site site,
      float[] direction,
      double gap,
      double activationNorm,
      OptionalDouble explained,
      double threshold,
      Separation fitted) {

    /** Length of the direction. */
    public double norm() {
      return new ArrayRealVector(widen(direction)).getNorm();
    }
  }

  private final LanguageModel model;
  private final Method method;
  private final Length length;
  private final int positivePrompts;
  private final int negativePrompts;
  private final List<SiteFit> fits;

  /**
   * Reads the prompts and fits a direction at each site.
   *
   * @param sites of d_model values
   * @throws IllegalArgumentException if there is no direction to find, naming the site; or if PCA
   *     finds no negative prompt for each positive one
   */
  public ControlVectorFit(
      LanguageModel model,
      List<Site> sites,
      Method method,
      Length length,
      List<int[]> positive,
      List<int[]> negative) {
    if (method == Method.PCA && positive.size() != negative.size()) {
      throw new IllegalArgumentException(
          ("%,d positive and %,d negative prompts: pca pairs each positive prompt with the negative"
                  + " one at the same place; give as many of both, or take mean")
              .formatted(positive.size(), negative.size()));
    }
    this.model = model;
    this.method = method;
    this.length = length;
    positivePrompts = positive.size();
    negativePrompts = negative.size();
    Activations read = Activations.read(model, sites, positive, negative);
    fits =
        sites.stream().parallel().map(site -> attempt(site, read)).toList().stream()
            .map(Supplier::get)
            .toList();
  }

  /** A site's fit, or its error, which a thread of its own would wrap. */
  private Supplier<SiteFit> attempt(Site site, Activations read) {
    try {
      SiteFit fit = fit(site, method, length, read.positive(site), read.negative(site));
      return () -> fit;
    } catch (IllegalArgumentException e) {
      return () -> {
        throw e;
      };
    }
  }

  /** Activations of both sides' last tokens, a row [d_model] for each prompt. */
  private record Activations(Map<Site, List<float[]>> positive, Map<Site, List<float[]>> negative) {
    static Activations read(
        LanguageModel model, List<Site> sites, List<int[]> positive, List<int[]> negative) {
      if (positive.isEmpty() || negative.isEmpty()) {
        throw new IllegalArgumentException(
            "there are no %s prompts".formatted(positive.isEmpty() ? "positive" : "negative"));
      }
      Sides ends = Sides.end(positive, negative);
      return new Activations(
          ContrastRows.read(model.engine(), sites, ends.positive()),
          ContrastRows.read(model.engine(), sites, ends.negative()));
    }

    RealMatrix positive(Site site) {
      return matrix(positive.get(site));
    }

    RealMatrix negative(Site site) {
      return matrix(negative.get(site));
    }

    private static RealMatrix matrix(List<float[]> rows) {
      RealMatrix matrix = new Array2DRowRealMatrix(rows.size(), rows.getFirst().length);
      for (int i = 0; i < rows.size(); i++) {
        matrix.setRow(i, widen(rows.get(i)));
      }
      return matrix;
    }
  }

  /**
   * Fits one site's direction.
   *
   * @param positive [n, d_model]
   * @param negative [m, d_model]; m = n for PCA
   */
  static SiteFit fit(
      Site site, Method method, Length length, RealMatrix positive, RealMatrix negative) {
    double activationNorm =
        Stream.of(positive, negative).flatMapToDouble(ControlVectorFit::norms).average().orElse(0);
    if (!Double.isFinite(activationNorm)) {
      throw new IllegalArgumentException(site + ": an activation is not finite");
    }
    RealVector difference = mean(positive).subtract(mean(negative));
    RealMatrix pairs = method == Method.PCA ? positive.subtract(negative) : null;
    double spread = pairs == null ? difference.getNorm() : pairs.getFrobeniusNorm();
    if (!(spread > NOTHING * activationNorm)) {
      throw new IllegalArgumentException(
          site + ": the positive and the negative prompts leave the same activations there");
    }
    RealVector axis = pairs == null ? difference.unitVector() : principal(pairs);
    double gap = difference.dotProduct(axis);
    if (!(Math.abs(gap) > NOTHING * activationNorm)) {
      throw new IllegalArgumentException(
          site
              + ": the pairs' principal component does not tell the sides apart, as their means are"
              + " the same along it: let the prompts of a pair differ in the behaviour alone, or"
              + " take mean");
    }
    float[] direction = new float[axis.getDimension()];
    for (int i = 0; i < direction.length; i++) {
      direction[i] = (float) (axis.getEntry(i) * (length == Length.UNIT ? Math.signum(gap) : gap));
    }
    RealVector written = new ArrayRealVector(widen(direction));
    double threshold = mean(positive).add(mean(negative)).dotProduct(written) / 2;
    return new SiteFit(
        site,
        direction,
        Math.abs(gap),
        activationNorm,
        pairs == null
            ? OptionalDouble.empty()
            : OptionalDouble.of(Math.pow(pairs.operate(axis).getNorm() / spread, 2)),
        threshold,
        separation(written, threshold, positive, negative));
  }

  /** The unit vector [d] with the largest sum of squared products with rows [n, d]. */
  private static RealVector principal(RealMatrix rows) {
    RealMatrix turned = rows.transpose();
    // R Rᵀ and Rᵀ R have the same eigenvalues, and eigenvectors of one give the other's.
    boolean few = rows.getRowDimension() < rows.getColumnDimension();
    EigenDecomposition eigen =
        new EigenDecomposition(few ? rows.multiply(turned) : turned.multiply(rows));
    RealVector first =
        eigen.getEigenvector(new ArrayRealVector(eigen.getRealEigenvalues()).getMaxIndex());
    return (few ? turned.operate(first) : first).unitVector();
  }

  private static Separation separation(
      RealVector direction, double threshold, RealMatrix positive, RealMatrix negative) {
    double[] above = positive.operate(direction).toArray();
    double[] below = negative.operate(direction).toArray();
    double ordered = 0;
    for (double high : above) {
      for (double low : below) {
        ordered += high > low ? 1 : high == low ? 0.5 : 0;
      }
    }
    long right =
        Arrays.stream(above).filter(value -> value > threshold).count()
            + Arrays.stream(below).filter(value -> value < threshold).count();
    return new Separation(
        ordered / above.length / below.length, (double) right / (above.length + below.length));
  }

  private static RealVector mean(RealMatrix rows) {
    int n = rows.getRowDimension();
    return rows.preMultiply(new ArrayRealVector(n, 1.0 / n));
  }

  private static DoubleStream norms(RealMatrix rows) {
    return IntStream.range(0, rows.getRowDimension())
        .mapToDouble(i -> rows.getRowVector(i).getNorm());
  }

  private static double[] widen(float[] values) {
    return IntStream.range(0, values.length).mapToDouble(i -> values[i]).toArray();
  }

  /** What was fitted, in the order of the sites. */
  public List<SiteFit> fits() {
    return fits;
  }

  /** How well each site's direction tells other prompts apart, in the order of the sites. */
  public List<Separation> separation(List<int[]> positive, List<int[]> negative) {
    List<Site> sites = fits.stream().map(SiteFit::site).toList();
    Activations read = Activations.read(model, sites, positive, negative);
    return fits.stream()
        .map(
            fit ->
                separation(
                    new ArrayRealVector(widen(fit.direction)),
                    fit.threshold,
                    read.positive(fit.site),
                    read.negative(fit.site)))
        .toList();
  }

  /**
   * Refuses a file that cannot hold the directions of some sites, before they are fitted.
   *
   * @throws IllegalArgumentException if its name ends neither in .gguf nor in .safetensors, or if
   *     it is a GGUF control vector and a site is none of {@code blocks.1.hook_resid_post} on
   */
  public static void check(Path out, List<Site> sites) {
    String name = out.toString();
    if (name.endsWith(".safetensors")) {
      return;
    }
    if (!name.endsWith(".gguf")) {
      throw new IllegalArgumentException(out + ": name a file that ends in .gguf or .safetensors");
    }
    for (Site site : sites) {
      if (site.kind() != Site.Kind.RESID_POST || site.layer() < 1) {
        throw new IllegalArgumentException(
            out
                + ": a GGUF control vector has no place for "
                + site
                + ", only for hook_resid_post of layers from 1 on; .safetensors takes it");
      }
    }
  }

  /**
   * Writes the directions: a {@link ControlVector}, or safetensors with a tensor F32 [d_model] for
   * each site, called as the site is. Readers see the whole file or none.
   *
   * @throws IllegalArgumentException as {@link #check}
   */
  public void write(Path out) {
    check(out, fits.stream().map(SiteFit::site).toList());
    String modelType = model.config().family().modelType();
    if (out.toString().endsWith(".gguf")) {
      SortedMap<Integer, float[]> directions = new TreeMap<>();
      fits.forEach(fit -> directions.put(fit.site.layer(), fit.direction));
      new ControlVector(Optional.of(modelType), Optional.of(name(method)), directions).write(out);
      return;
    }
    Map<String, String> facts =
        Map.of(
            "format", "halter control vectors",
            "fingerprint", model.llama().fingerprint(),
            "model_type", modelType,
            "method", name(method),
            "length", name(length),
            "positive_prompts", Integer.toString(positivePrompts),
            "negative_prompts", Integer.toString(negativePrompts));
    List<TensorSpec> tensors =
        fits.stream()
            .map(fit -> new TensorSpec(fit.site.name(), DType.F32, fit.direction.length))
            .toList();
    try (SafetensorsWriter writer = SafetensorsWriter.create(out, facts, tensors)) {
      fits.forEach(fit -> writer.write(fit.site.name(), fit.direction));
    }
  }

  private static String name(Enum<?> setting) {
    return setting.name().toLowerCase(Locale.ROOT);
  }
}
