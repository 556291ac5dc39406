package dev.halter.heads;

import dev.halter.generation.LanguageModel;
import dev.halter.heads.Activations.Sides;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.commons.math3.linear.EigenDecomposition;
import org.apache.commons.math3.linear.MatrixUtils;
import org.apache.commons.math3.linear.RealMatrix;

/**
 * Directions of a behaviour in the residual stream, the baseline of Sparse Activation Control: the
 * first principal component of differences between pairs of prompts at their last token, as
 * Representation Engineering reads it (arXiv 2310.01405; its code draws the order within each pair
 * at random, so that the differences' mean, which PCA takes away, is not the direction itself).
 *
 * <p>Each vector points to the positive side and is as long as the sides' means lie apart along it,
 * so that a scale of 1 means the same in every layer (our choice).
 */
final class Direction {
  private static final long SEED = 0;

  private Direction() {}

  /**
   * The vector [d_model] of each layer's {@code hook_resid_post}.
   *
   * @param sides texts, each positive one paired with the negative one at the same place
   * @throws IllegalArgumentException if the pairs do not differ
   */
  static List<float[]> pca(LanguageModel model, Sides sides) {
    List<Site> sites = new ArrayList<>();
    for (int layer = 0; layer < model.config().nLayers(); layer++) {
      sites.add(new Site(Site.Kind.RESID_POST, layer));
    }
    Map<Site, List<float[]>> wanted = Activations.read(model.engine(), sites, sides.positive());
    Map<Site, List<float[]>> unwanted = Activations.read(model.engine(), sites, sides.negative());
    return sites.stream().map(site -> pca(wanted.get(site), unwanted.get(site))).toList();
  }

  /** The vector of paired rows [d]. */
  static float[] pca(List<float[]> positive, List<float[]> negative) {
    int n = positive.size();
    int d = positive.getFirst().length;
    Random random = new Random(SEED);
    double[] gap = new double[d]; // between the sides' means
    double[][] rows = new double[n][d];
    double[] mean = new double[d];
    for (int row = 0; row < n; row++) {
      int sign = random.nextBoolean() ? 1 : -1;
      for (int i = 0; i < d; i++) {
        double difference = (double) positive.get(row)[i] - negative.get(row)[i];
        gap[i] += difference / n;
        rows[row][i] = sign * difference;
        mean[i] += rows[row][i] / n;
      }
    }
    for (double[] row : rows) {
      Arrays.setAll(row, i -> row[i] - mean[i]);
    }
    // The first right singular vector by way of the Gram matrix: pairs are fewer than dimensions.
    RealMatrix centred = MatrixUtils.createRealMatrix(rows);
    EigenDecomposition eigen = new EigenDecomposition(centred.multiply(centred.transpose()));
    double[] values = eigen.getRealEigenvalues();
    int first = 0;
    for (int i = 1; i < values.length; i++) {
      first = values[i] > values[first] ? i : first;
    }
    double[] axis = centred.preMultiply(eigen.getEigenvector(first).toArray());
    double square = dot(axis, axis);
    if (!(square > 0)) {
      throw new IllegalArgumentException("the pairs do not differ: there is no direction");
    }
    double scale = dot(gap, axis) / square; // of either sign: an axis has none
    float[] vector = new float[d];
    for (int i = 0; i < d; i++) {
      vector[i] = (float) (scale * axis[i]);
    }
    return vector;
  }

  private static double dot(double[] one, double[] other) {
    double sum = 0;
    for (int i = 0; i < one.length; i++) {
      sum += one[i] * other[i];
    }
    return sum;
  }

  /** The mean of several tasks' vectors, layer by layer. */
  static List<float[]> mean(List<List<float[]>> tasks) {
    List<float[]> means = new ArrayList<>();
    for (int layer = 0; layer < tasks.getFirst().size(); layer++) {
      float[] sum = new float[tasks.getFirst().get(layer).length];
      for (List<float[]> task : tasks) {
        float[] vector = task.get(layer);
        for (int i = 0; i < sum.length; i++) {
          sum[i] += vector[i] / tasks.size();
        }
      }
      means.add(sum);
    }
    return means;
  }
}
