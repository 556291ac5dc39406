package dev.halter.heads;

import dev.halter.generation.LanguageModel;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * Directions of a behaviour in the residual stream, the baseline of Sparse Activation Control: the
 * first principal component of differences between pairs of activations, as Representation
 * Engineering reads it (arXiv 2310.01405). Its code draws the order within each pair at random
 * before PCA takes the mean away; here the component is about zero, which is what that comes to.
 *
 * <p>Each vector points to the positive side and is as long as the sides' means lie apart along it,
 * so that a scale of 1 means the same in every layer (our choice).
 */
public final class RepeDirection {
  private static final int MOST_ITERATIONS = 1000;
  private static final double ENOUGH = 1e-12;

  private RepeDirection() {}

  /**
   * The vector [d_model] of each layer's {@code hook_resid_post}.
   *
   * @param sides texts, each positive one paired with the negative one at the same place
   * @throws IllegalArgumentException if the pairs do not differ
   */
  public static List<float[]> pca(LanguageModel model, Sides sides) {
    List<Site> sites = new ArrayList<>();
    for (int layer = 0; layer < model.config().nLayers(); layer++) {
      sites.add(new Site(Site.Kind.RESID_POST, layer));
    }
    Map<Site, List<float[]>> positive = ContrastRows.read(model.engine(), sites, sides.positive());
    Map<Site, List<float[]>> negative = ContrastRows.read(model.engine(), sites, sides.negative());
    return sites.stream().map(site -> pca(positive.get(site), negative.get(site))).toList();
  }

  /** The vector of paired rows [d], by power iteration from the difference of the means on. */
  static float[] pca(List<float[]> positive, List<float[]> negative) {
    int d = positive.getFirst().length;
    double[][] rows = new double[positive.size()][d];
    double[] gap = new double[d]; // between the sides' means
    for (int row = 0; row < rows.length; row++) {
      for (int i = 0; i < d; i++) {
        rows[row][i] = (double) positive.get(row)[i] - negative.get(row)[i];
        gap[i] += rows[row][i] / rows.length;
      }
    }
    if (!(dot(gap, gap) > 0)) {
      throw new IllegalArgumentException("the pairs do not differ: there is no direction");
    }
    double[] axis = unit(gap);
    double cosine = 0;
    for (int i = 0; i < MOST_ITERATIONS && 1 - cosine > ENOUGH; i++) {
      double[] next = new double[d];
      for (double[] row : rows) {
        double along = dot(row, axis);
        Arrays.setAll(next, j -> next[j] + along * row[j]);
      }
      double[] turned = unit(next);
      cosine = dot(turned, axis);
      axis = turned;
    }
    double length = dot(gap, axis); // of either sign: an axis has none
    float[] vector = new float[d];
    for (int i = 0; i < d; i++) {
      vector[i] = (float) (length * axis[i]);
    }
    return vector;
  }

  private static double[] unit(double[] vector) {
    double norm = Math.sqrt(dot(vector, vector));
    return Arrays.stream(vector).map(value -> value / norm).toArray();
  }

  private static double dot(double[] a, double[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += a[i] * b[i];
    }
    return sum;
  }

  /** The mean of several tasks' vectors, layer by layer. */
  public static List<float[]> mean(List<List<float[]>> tasks) {
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
