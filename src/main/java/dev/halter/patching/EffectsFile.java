package dev.halter.patching;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.model.Head;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Effects of a sweep over every head and MLP, as {@code halter heads patch} writes them. Entries
 * that were not measured are NaN.
 *
 * @param variant of path patching
 * @param pairs that the means are over
 * @param heads mean over pairs of Δ / reference, by layer and head
 * @param deltaLogit mean over pairs of patched − reference logit of the answer, by layer and head
 * @param mlps as {@code heads}, by layer
 * @param mlpDeltaLogit as {@code deltaLogit}, by layer
 * @param referenceLogit mean logit of the answer without a patch
 */
public record EffectsFile(
    Path file,
    String variant,
    int pairs,
    double[][] heads,
    double[][] deltaLogit,
    double[] mlps,
    double[] mlpDeltaLogit,
    double referenceLogit) {

  /**
   * Reads a file of effects; keys that are not used here are left alone.
   *
   * @throws BadFileException naming the key that is missing or has another shape
   */
  public static EffectsFile read(Path file) {
    return of(JsonObject.read(file));
  }

  /** What a file that is read already holds; errors as above. */
  public static EffectsFile of(JsonObject json) {
    double[][] heads = matrix(json, "heads", json.value("heads"), -1, -1);
    int layers = heads.length;
    return new EffectsFile(
        json.file(),
        json.text("variant"),
        json.integer("pairs", 1, Integer.MAX_VALUE),
        heads,
        matrix(json, "delta_logit", json.value("delta_logit"), layers, heads[0].length),
        numbers(json, "mlps", json.value("mlps"), layers),
        numbers(json, "mlp_delta_logit", json.value("mlp_delta_logit"), layers),
        json.number("reference_logit", -Double.MAX_VALUE, Double.MAX_VALUE));
  }

  /** A value as rows of numbers, null as NaN; −1 stands for any count above 0. */
  static double[][] matrix(JsonObject json, String key, Object value, int rows, int columns) {
    if (!(value instanceof List<?> list) || list.isEmpty() || rows >= 0 && list.size() != rows) {
      throw json.wrong(key, "a list of " + (rows < 0 ? "rows" : rows + " rows"));
    }
    double[][] matrix = new double[list.size()][];
    for (int row = 0; row < matrix.length; row++) {
      int width = row == 0 ? columns : matrix[0].length;
      matrix[row] = numbers(json, key, list.get(row), width);
    }
    return matrix;
  }

  /** A value as numbers, null as NaN; −1 stands for any count above 0. */
  static double[] numbers(JsonObject json, String key, Object value, int count) {
    if (!(value instanceof List<?> list) || list.isEmpty() || count >= 0 && list.size() != count) {
      throw json.wrong(key, "lists of " + (count < 0 ? "numbers" : count + " numbers"));
    }
    double[] numbers = new double[list.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] =
          switch (list.get(i)) {
            case Number number -> number.doubleValue();
            case null -> Double.NaN;
            default -> throw json.wrong(key, "lists of numbers");
          };
    }
    return numbers;
  }

  /**
   * Refuses effects of a model with other layers or heads.
   *
   * @throws BadFileException saying which
   */
  public EffectsFile requireOf(ModelConfig config) {
    if (heads.length != config.nLayers() || heads[0].length != config.nHeads()) {
      throw new BadFileException(
          file,
          "has effects of %d layers of %d heads, but the model has %d of %d: name its own effects"
              .formatted(heads.length, heads[0].length, config.nLayers(), config.nHeads()));
    }
    return this;
  }

  /**
   * The heads that the answer needs most: those whose patch lowers its logit most, in that order.
   *
   * @throws IllegalArgumentException if there are not so many heads
   */
  public List<Head> top(int count) {
    List<Head> order = new ArrayList<>();
    for (int layer = 0; layer < heads.length; layer++) {
      for (int head = 0; head < heads[layer].length; head++) {
        if (!Double.isNaN(deltaLogit[layer][head])) {
          order.add(new Head(layer, head));
        }
      }
    }
    if (count < 1 || count > order.size()) {
      throw new IllegalArgumentException(
          "%d heads were asked for, must be 1 to %d".formatted(count, order.size()));
    }
    order.sort(Comparator.comparingDouble(head -> deltaLogit[head.layer()][head.head()]));
    return List.copyOf(order.subList(0, count));
  }
}
