package dev.halter.patching;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.text.VisibleText;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Effects of activation patching by layer and position, as {@code halter heads grid} writes them.
 * Entries that no pair has are NaN.
 *
 * @param site that was patched, such as {@code hook_resid_pre}
 * @param perHead whether its heads were patched one by one
 * @param pairs that the means are over
 * @param columns the name of each position: its number from the prompt's end, and its token if all
 *     pairs have the same there
 * @param relative mean over pairs of Δ / reference, by layer, head (one where they were patched
 *     together) and position
 * @param deltaLogit mean over pairs of patched − reference logit of the answer, likewise
 * @param referenceLogit mean logit of the answer without a patch
 */
public record GridFile(
    String site,
    boolean perHead,
    int pairs,
    List<String> columns,
    double[][][] relative,
    double[][][] deltaLogit,
    double referenceLogit) {

  /** Whether a file is one of a grid, and not of effects by head. */
  public static boolean isOne(JsonObject json) {
    return json.has("site") && json.has("positions");
  }

  /**
   * What a file holds; keys that are not used here are left alone.
   *
   * @throws BadFileException naming the key that is missing or has another shape
   */
  public static GridFile of(JsonObject json) {
    boolean perHead = json.flag("per_head", false);
    List<String> columns = columns(json);
    return new GridFile(
        json.text("site"),
        perHead,
        json.integer("pairs", 1, Integer.MAX_VALUE),
        columns,
        layers(json, "relative", perHead, columns.size()),
        layers(json, "delta_logit", perHead, columns.size()),
        json.number("reference_logit", -Double.MAX_VALUE, Double.MAX_VALUE));
  }

  private static List<String> columns(JsonObject json) {
    double[] positions = EffectsFile.numbers(json, "positions", json.value("positions"), -1);
    // Files of before tokens were written have none.
    Object tokens =
        json.has("tokens") ? json.value("tokens") : Collections.nCopies(positions.length, null);
    if (!(tokens instanceof List<?> texts) || texts.size() != positions.length) {
      throw json.wrong("tokens", "a list of " + positions.length + " texts, or null");
    }
    List<String> columns = new ArrayList<>();
    for (int i = 0; i < positions.length; i++) {
      if (positions[i] != Math.rint(positions[i])) { // which NaN is not either
        throw json.wrong("positions", "a list of integers");
      }
      String name = Integer.toString((int) positions[i]).replace('-', '−');
      Object token = texts.get(i);
      columns.add(token == null ? name : name + " " + VisibleText.of(token.toString()));
    }
    return columns;
  }

  private static double[][][] layers(JsonObject json, String key, boolean perHead, int columns) {
    if (!(json.value(key) instanceof List<?> list) || list.isEmpty()) {
      throw json.wrong(key, "a list of layers");
    }
    return list.stream()
        .map(
            layer ->
                perHead
                    ? EffectsFile.matrix(json, key, layer, -1, columns)
                    : new double[][] {EffectsFile.numbers(json, key, layer, columns)})
        .toArray(double[][][]::new);
  }
}
