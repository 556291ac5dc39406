package dev.halter.patching;

import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable;
import dev.halter.files.ParquetTable.Column;
import dev.halter.model.Head;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.DoubleStream;

/**
 * Effects of {@code halter heads patch} as a table, a row for each head and MLP, layer by layer:
 * {@code sender, layer, head} (null for the MLP), then what was measured, null where it was not.
 * {@code relative} is what the document calls {@code heads} and {@code mlps}.
 */
public final class EffectsTable {
  /** Its columns. */
  public static final List<Column> COLUMNS =
      List.of(
          Column.text("sender"),
          Column.int32("layer"),
          Column.int32("head"),
          Column.real("relative"),
          Column.real("delta_logit"),
          Column.real("relative_of_means"),
          Column.real("standard_error"),
          Column.real("probability"),
          Column.real("logit_difference"));

  private EffectsTable() {}

  /**
   * Writes the effects of a document as Parquet; readers see the whole file or none.
   *
   * @return the rows of the table
   * @throws dev.halter.files.BadFileException naming the key that is missing or has another shape
   */
  public static int write(JsonObject json, Path out) {
    EffectsFile effects = EffectsFile.of(json);
    List<List<Object>> rows = rows(json, effects);
    ParquetTable.write(
        out,
        Map.of("variant", effects.variant(), "pairs", Integer.toString(effects.pairs())),
        COLUMNS,
        table -> {
          for (List<Object> row : rows) {
            table.row(row);
          }
        });
    return rows.size();
  }

  /** The rows of effects, a value for each column. */
  public static List<List<Object>> rows(Effects effects) {
    return effects.all().stream().map(EffectsTable::row).toList();
  }

  private static List<Object> row(Effects.Sender sender) {
    Effects.Effect effect = sender.effect();
    return row(
        sender.layer(),
        sender.head(),
        DoubleStream.of(
            effect.relative(),
            effect.delta(),
            effect.relativeOfMeans(),
            effect.standardError(),
            effect.probability(),
            effect.logitDifference()));
  }

  private static List<List<Object>> rows(JsonObject json, EffectsFile effects) {
    int layers = effects.heads().length;
    int heads = effects.heads()[0].length;
    List<double[][]> ofHeads = new ArrayList<>();
    ofHeads.add(effects.heads());
    List<double[]> ofMlps = new ArrayList<>();
    ofMlps.add(effects.mlps());
    for (Column column : COLUMNS.subList(4, COLUMNS.size())) {
      String measure = column.name();
      String mlp = "mlp_" + measure;
      if (json.has(measure)) {
        ofHeads.add(EffectsFile.matrix(json, measure, json.value(measure), layers, heads));
        ofMlps.add(EffectsFile.numbers(json, mlp, json.value(mlp), layers));
      } else {
        ofHeads.add(null);
        ofMlps.add(null);
      }
    }
    List<List<Object>> rows = new ArrayList<>();
    for (int i = 0; i < layers; i++) {
      int layer = i;
      for (int j = 0; j < heads; j++) {
        int head = j;
        rows.add(
            row(
                layer,
                new Head(layer, head),
                ofHeads.stream().mapToDouble(all -> all == null ? Double.NaN : all[layer][head])));
      }
      rows.add(
          row(
              layer,
              null,
              ofMlps.stream().mapToDouble(all -> all == null ? Double.NaN : all[layer])));
    }
    return rows;
  }

  private static List<Object> row(int layer, Head head, DoubleStream measures) {
    List<Object> row = new ArrayList<>();
    row.add(head == null ? "mlp " + layer : head.toString());
    row.add(layer);
    row.add(head == null ? null : head.head());
    measures.forEach(measure -> row.add(Double.isFinite(measure) ? measure : null));
    return row;
  }
}
