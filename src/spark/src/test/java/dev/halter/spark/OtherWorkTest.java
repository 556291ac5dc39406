package dev.halter.spark;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Capture;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.functions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Activations, maps and effects as datasets, against the same without Spark. */
class OtherWorkTest {
  private final SparkSession spark = Local.spark();

  @TempDir Path folder;

  private static <T extends ModelJob<T>> T here(T job) {
    return job.model(Local.MODEL.toString()).device("cpu").threads(1).context(128);
  }

  @Test
  void capturesAreARowForEachVector() {
    Dataset<Row> prompts =
        spark.sql(
            "SELECT 'a' AS id, 'The dog' AS prompt UNION ALL SELECT 'b', 'Two dogs and a cat'"
                + " UNION ALL SELECT 'c', NULL");
    String[] sites = {
      "blocks.*.hook_resid_post", "blocks.1.attn.hook_z", "blocks.2.attn.hook_pattern"
    };
    List<Row> rows =
        here(HalterCapture.on(prompts)).sites(sites).positions(-1, 0).run().collectAsList();
    try (LanguageModel model =
        LanguageModel.at(Local.MODEL).device("cpu").threads(1).context(128).open()) {
      for (String[] prompt : new String[][] {{"a", "The dog"}, {"b", "Two dogs and a cat"}}) {
        Capture capture = model.read(prompt[1], sites);
        int last = capture.length() - 1;
        List<Row> ours = rows.stream().filter(row -> row.getString(0).equals(prompt[0])).toList();
        assertEquals(2 * (4 + 6 + 6), ours.size());
        for (Row row : ours) {
          int position = row.getInt(2);
          assertTrue(position == 0 || position == last);
          float[] all = capture.at(row.getString(1), position);
          int width = row.getString(1).endsWith("hook_z") ? 32 : all.length;
          width = row.getString(1).endsWith("pattern") ? capture.length() : width;
          int from = row.isNullAt(3) ? 0 : row.getInt(3) * width;
          assertArrayEquals(Arrays.copyOfRange(all, from, from + width), vector(row));
        }
        assertEquals(2 * 4, ours.stream().filter(row -> row.isNullAt(3)).count());
      }
    }
    List<Row> failed = rows.stream().filter(row -> !row.isNullAt(5)).toList();
    assertEquals(1, failed.size());
    assertEquals("c", failed.getFirst().getString(0));
    assertTrue(failed.getFirst().getString(5).contains("exactly one"));
    Exception none =
        assertThrows(
            Exception.class,
            () -> here(HalterCapture.on(prompts)).sites("blocks.9.hook_resid_post").run().count());
    assertTrue(none.toString().contains("blocks.9"), none.toString());
  }

  private static float[] vector(Row row) {
    List<Float> values = row.getList(4);
    float[] vector = new float[values.size()];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = values.get(i);
    }
    return vector;
  }

  @Test
  void aMapByLayersIsTheMapOfHalter() throws Exception {
    Path table = folder.resolve("map.parquet");
    Local.halter(
        0,
        "map",
        "--model",
        Local.MODEL,
        "--device",
        "cpu",
        "--export",
        table,
        "--top",
        3,
        "--proj",
        "gate");
    Dataset<Row> expected = spark.read().parquet(table.toString());
    HalterMap map = here(HalterMap.on(spark)).projection("gate").top(3);
    Dataset<Row> made = map.run();
    assertEquals(List.of(expected.columns()), List.of(made.columns()));
    assertEquals(4, made.javaRDD().getNumPartitions());
    String[] order = {"layer", "neuron", "sign", "rank"};
    List<Row> rows = made.sort(by(order)).collectAsList();
    assertEquals(4 * 768 * 2 * 3, rows.size());
    assertEquals(expected.sort(by(order)).collectAsList().toString(), rows.toString());
    assertThrows(IllegalArgumentException.class, () -> map.projection("sideways"));
  }

  private static Column[] by(String... names) {
    return Stream.of(names).map(functions::col).toArray(Column[]::new);
  }

  @Test
  void effectsAreThoseOfHeadsPatchToTheBit() throws Exception {
    List<String> pairs = new ArrayList<>();
    for (int i = 0; i < 9; i++) {
      pairs.add(
          "{\"reference_tokens\":[5,%d,20],\"counterfactual_tokens\":[5,11,20],\"answer_token\":%d,\"foil_token\":31}"
              .formatted(40 + i, 30 + i));
    }
    Path in = Files.write(folder.resolve("pairs.jsonl"), pairs);
    Path effects = folder.resolve("effects.json");
    Local.halter(
        0,
        "heads",
        "patch",
        "--model",
        Local.MODEL,
        "--device",
        "cpu",
        "--pairs",
        in,
        "--out",
        effects);
    Path table = folder.resolve("effects.parquet");
    Local.halter(0, "table", effects, "--out", table);
    List<Row> expected = spark.read().parquet(table.toString()).collectAsList();
    List<String> numbered = new ArrayList<>();
    for (int i = 0; i < pairs.size(); i++) {
      numbered.add(pairs.get(i).replaceFirst("\\{", "{\"id\":" + i + ","));
    }
    Dataset<Row> lines = spark.createDataset(numbered, Encoders.STRING()).toDF().repartition(4);
    HalterPatching patching = here(HalterPatching.on(lines));
    assertEquals(expected, patching.run().collectAsList());

    List<Row> each = patching.byPair().collectAsList();
    assertEquals(9 * 4 * 7, each.size());
    Set<String> ids = new TreeSet<>();
    double sum = 0;
    for (Row row : each) {
      ids.add(row.getString(0));
      assertNull(row.getAs("error"));
      if (row.getAs("sender").equals("2.3")) {
        sum += (double) row.getAs("delta_logit");
      }
    }
    assertEquals(9, ids.size());
    Row mean = expected.stream().filter(row -> row.getAs("sender").equals("2.3")).findFirst().get();
    assertEquals((double) mean.getAs("delta_logit"), sum / 9, 1e-12);
    assertTrue(sum != 0);

    numbered.set(4, "{\"id\":4,\"reference_tokens\":[5]}");
    Dataset<Row> bad = spark.createDataset(numbered, Encoders.STRING()).toDF().repartition(2);
    Exception refused = assertThrows(Exception.class, () -> here(HalterPatching.on(bad)).run());
    assertTrue(refused.toString().contains("pair 4: "), refused.toString());
    List<Row> failed =
        here(HalterPatching.on(bad)).byPair().where("error is not null").collectAsList();
    assertEquals(1, failed.size());
    assertEquals("4", failed.getFirst().getString(0));
    assertNotNull(failed.getFirst().getAs("error"));
  }
}
