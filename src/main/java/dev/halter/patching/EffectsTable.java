package dev.halter.patching;

import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable;
import dev.halter.files.ParquetTable.Column;
import dev.halter.model.Head;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Effects of {@code halter heads patch} as a table, a row for each head and MLP, layer by layer:
 * {@code sender, layer, head} (null for the MLP), then what was measured, null where it was not.
 * {@code relative} is what the document calls {@code heads} and {@code mlps}.
 */
public final class EffectsTable {
  private static final List<String> MEASURES =
      List.of(
          "delta_logit", "relative_of_means", "standard_error", "probability", "logit_difference");

  private EffectsTable() {}

  /**
   * Writes the effects of a document as Parquet; readers see the whole file or none.
   *
   * @return the rows of the table
   * @throws dev.halter.files.BadFileException naming the key that is missing or has another shape
   */
  public static int write(JsonObject json, Path out) {
    EffectsFile effects = EffectsFile.of(json);
    int layers = effects.heads().length;
    int heads = effects.heads()[0].length;
    List<Column> columns = new ArrayList<>();
    columns.add(Column.text("sender"));
    columns.add(Column.int32("layer"));
    columns.add(Column.int32("head"));
    columns.add(Column.real("relative"));
    List<double[][]> ofHeads = new ArrayList<>();
    List<double[]> ofMlps = new ArrayList<>();
    ofHeads.add(effects.heads());
    ofMlps.add(effects.mlps());
    for (String measure : MEASURES) {
      columns.add(Column.real(measure));
      boolean has = json.has(measure);
      String mlp = "mlp_" + measure;
      ofHeads.add(
          has ? EffectsFile.matrix(json, measure, json.value(measure), layers, heads) : null);
      ofMlps.add(has ? EffectsFile.numbers(json, mlp, json.value(mlp), layers) : null);
    }
    Map<String, String> facts =
        Map.of("variant", effects.variant(), "pairs", Integer.toString(effects.pairs()));
    ParquetTable.write(
        out,
        facts,
        columns,
        rows -> {
          for (int layer = 0; layer < layers; layer++) {
            for (int head = 0; head < heads; head++) {
              rows.add(new Head(layer, head).toString()).add(layer).add(head);
              for (double[][] measure : ofHeads) {
                rows.add(measure == null ? Double.NaN : measure[layer][head]);
              }
            }
            rows.add("mlp " + layer).add(layer).addNull();
            for (double[] measure : ofMlps) {
              rows.add(measure == null ? Double.NaN : measure[layer]);
            }
          }
        });
    return layers * (heads + 1);
  }
}
