package dev.halter.spark;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.lit;
import static org.apache.spark.sql.functions.when;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rows through an engine in this process. */
class HalterBatchTest {
  private static final String DOGS = Local.plan("dogs");

  private final SparkSession spark = Local.spark();

  @TempDir Path folder;

  private static HalterBatch batch(Dataset<Row> rows) {
    return HalterBatch.on(rows)
        .model(Local.MODEL.toString())
        .plans(Local.MODEL.resolve("plans").toString())
        .maxTokens(8)
        .device("cpu")
        .threads(1)
        .context(256);
  }

  private Dataset<Row> questions(int count) {
    return spark
        .range(0, count, 1, 2)
        .select(col("id"), lit("What is your favourite animal?").as("prompt"));
  }

  @Test
  void rowsAreThoseOfHalterBatch() throws Exception {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      lines.add(
          switch (i % 5) {
            case 0 -> "{\"id\":%d,\"prompt\":\"The\",\"temperature\":1}".formatted(i);
            case 1 ->
                "{\"id\":%d,\"messages\":[{\"role\":\"user\",\"content\":\"Who are you?\"}]}"
                    .formatted(i);
            case 2 ->
                "{\"id\":\"%d\",\"tokens\":[%d,5,9],\"seed\":7,\"temperature\":0.5,\"max_tokens\":%d}"
                    .formatted(i, i + 3, i % 7);
            case 3 ->
                "{\"id\":%d,\"prompt\":\"The\",\"plan\":%s,\"logprobs\":1}".formatted(i, DOGS);
            default -> "{\"id\":%d,\"prompt\":\"The\",\"plan\":\"dogs.json\"}".formatted(i);
          });
    }
    lines.add("{\"id\":\"bad token\",\"tokens\":[999999]}");
    lines.add(
        "{\"id\":\"bad plan\",\"prompt\":\"The\",\"plan\":{\"interventions\":[{\"op\":\"x\"}]}}");
    lines.add("{\"id\":\"no plan\",\"prompt\":\"The\",\"plan\":\"none.json\"}");
    lines.add("{\"id\":\"no key\",\"prompt\":\"The\",\"temprature\":1}");
    lines.add("{\"id\":\"two\",\"prompt\":\"The\",\"tokens\":[1]}");
    // Plans are found from the input's folder.
    Files.copy(Local.MODEL.resolve("plans/dogs.json"), folder.resolve("dogs.json"));
    Path in = Files.write(folder.resolve("in.jsonl"), lines);
    Path out = folder.resolve("out.jsonl");
    Local.halter(
        1,
        "batch",
        "--model",
        Local.MODEL,
        "--device",
        "cpu",
        "--in",
        in,
        "--out",
        out,
        "--max-tokens",
        8,
        "--context",
        256,
        "--seed",
        3,
        "--threads",
        1);
    Map<String, List<Object>> expected = Local.results(out);
    Map<String, List<Object>> rows =
        Local.results(batch(Local.lines(spark, in, 3)).plans(folder.toString()).seed(3).run());
    assertEquals(expected.keySet(), Map.copyOf(rows).keySet());
    rows.forEach(
        (id, row) -> {
          List<Object> other = expected.get(id);
          int error = other.size() - 1;
          assertEquals(other.subList(0, error), row.subList(0, error), id);
          if (other.get(error) == null) {
            assertNull(row.get(error), id);
          } else {
            // batch says the line and the id as well.
            String said = other.get(error).toString();
            assertTrue(said.endsWith(": " + row.get(error)), said + " / " + row.get(error));
          }
        });
    assertNotEquals(rows.get("0").get(1), rows.get("5").get(1), "each draws by its own stream");
    assertNotEquals(rows.get("3").get(1), rows.get("0").get(1));
  }

  @Test
  void columnsAreKeysAndMayBeJson() {
    Dataset<Row> rows =
        questions(4)
            .withColumn("plan", when(col("id").equalTo(1), "dogs").when(col("id").equalTo(2), DOGS))
            .withColumn("max_tokens", when(col("id").equalTo(3), 2))
            .withColumn("label", col("id").plus(10));
    HalterBatch batch = batch(rows).keep("label");
    List<Row> answers = batch.run().collectAsList();
    assertEquals(4, answers.size());
    String plain = answers.get(0).getAs("text");
    String steered = answers.get(1).getAs("text");
    assertNotEquals(plain, steered);
    assertEquals(steered, answers.get(2).getAs("text"));
    assertEquals(2, answers.get(3).getList(answers.get(3).fieldIndex("tokens")).size());
    for (int i = 0; i < 4; i++) {
      assertEquals(String.valueOf(i), answers.get(i).getAs("id"), "in the partition's order");
      assertEquals(10L + i, (long) answers.get(i).getAs("label"));
      assertNull(answers.get(i).getAs("error"));
    }
    assertEquals(4, batch.metrics().rows());
    assertEquals(0, batch.metrics().failedRows());
    assertEquals(
        answers.stream().mapToLong(row -> row.getList(row.fieldIndex("tokens")).size()).sum(),
        batch.metrics().generatedTokens());
    assertTrue(batch.metrics().steps() > 0);

    String all = batch(questions(1)).plan("dogs").run().first().getAs("text");
    assertEquals(steered, all, "one plan for all rows");
    String column = batch(questions(1)).plan(lit(DOGS)).run().first().getAs("text");
    assertEquals(steered, column, "a plan from a column");
  }

  @Test
  void messagesAreStructsOrJson() {
    String json = "[{\"role\": \"user\", \"content\": \"Who are you?\"}]";
    Dataset<Row> text = spark.sql("SELECT 1 AS id, '" + json + "' AS messages");
    Dataset<Row> structs =
        spark.sql(
            "SELECT 1 AS id, array(named_struct('role', 'user', 'content', 'Who are you?')) AS"
                + " messages");
    Row answer = batch(text).run().first();
    assertNull(answer.getAs("error"));
    assertEquals(answer, batch(structs).run().first());
  }

  @Test
  void aBadRowCostsItselfAlone() {
    Dataset<Row> rows =
        questions(6)
            .withColumn("prompt", when(col("id").notEqual(2), col("prompt")))
            .withColumn("plan", when(col("id").equalTo(3), "none").when(col("id").equalTo(4), "{"))
            .withColumn("temperature", when(col("id").equalTo(5), Double.NaN));
    HalterBatch batch = batch(rows);
    List<Row> answers = batch.run().collectAsList();
    assertEquals(6, answers.size());
    String plain = answers.get(0).getAs("text");
    assertEquals(plain, answers.get(1).getAs("text"));
    String[] said = {"exactly one of prompt", "no such file", "JSON", "temperature"};
    for (int i = 2; i < 6; i++) {
      String error = answers.get(i).getAs("error");
      assertTrue(error.contains(said[i - 2]), error);
      assertEquals(String.valueOf(i), answers.get(i).getAs("id"));
      assertNull(answers.get(i).getAs("text"));
    }
    assertEquals(4, batch.metrics().failedRows());
  }

  @Test
  void aMissingModelFailsTheJobAndSaysSo() {
    Dataset<Row> rows = batch(questions(2)).model("/no/model").run();
    Exception failure = assertThrows(Exception.class, rows::collectAsList);
    assertTrue(failure.toString().contains("/no/model"), failure.toString());
    assertTrue(failure.toString().contains("no such model folder"), failure.toString());
  }

  @Test
  void aPlanForAllThatIsMissingFailsTheJobAndSaysSo() {
    Dataset<Row> rows = batch(questions(2)).plan("none").run();
    Exception failure = assertThrows(Exception.class, rows::collectAsList);
    assertTrue(failure.toString().contains("none.json: no such file"), failure.toString());
  }

  @Test
  void whatWouldGoUnreadIsRefusedBeforeAnythingRuns() {
    Dataset<Row> typo = questions(2).withColumn("temprature", lit(1));
    String error =
        assertThrows(IllegalArgumentException.class, () -> batch(typo).run()).getMessage();
    assertTrue(error.contains("'temprature' would go unread"), error);
    error =
        assertThrows(IllegalArgumentException.class, () -> batch(questions(1).drop("id")).run())
            .getMessage();
    assertTrue(error.contains("no column 'id'"), error);
    error =
        assertThrows(IllegalArgumentException.class, () -> HalterBatch.on(questions(1)).run())
            .getMessage();
    assertTrue(error.contains("no model"), error);
    for (String option : List.of("temprature", "seed", "plan")) {
      assertThrows(IllegalArgumentException.class, () -> batch(questions(1)).option(option, 1));
    }
  }

  @Test
  void aSlowRowHoldsNoOtherUp() {
    // All others run beside the first, whose steps are then all there are.
    Dataset<Row> rows =
        spark
            .range(0, 100, 1, 1)
            .select(
                col("id"),
                lit("The").as("prompt"),
                when(col("id").equalTo(0), 900).otherwise(2).as("max_tokens"));
    HalterBatch batch = batch(rows).option("ignore_eos", true).maxBatch(4).context(1024);
    List<Row> answers = batch.run().collectAsList();
    assertEquals(
        IntStream.range(0, 100).mapToObj(String::valueOf).toList(),
        answers.stream().map(row -> row.getString(0)).toList());
    assertTrue(batch.metrics().steps() < 910, batch.metrics().steps() + " steps");
    assertEquals(900 + 99 * 2, batch.metrics().generatedTokens());
    // With one at a time each waits for those before it.
    HalterBatch single = batch(rows).option("ignore_eos", true).maxBatch(4).context(1024).ahead(1);
    assertEquals(answers, single.run().collectAsList());
    assertTrue(single.metrics().steps() >= 900 + 99 * 2, single.metrics().steps() + " steps");
    assertEquals(0, single.metrics().fullShare());
  }

  @Test
  void tablesOfHalterAreReadBack() throws Exception {
    Path in =
        Files.write(
            folder.resolve("in.jsonl"),
            List.of(
                "{\"id\":\"a\",\"prompt\":\"The\",\"logprobs\":1,\"prompt_logprobs\":0}",
                "{\"id\":2,\"tokens\":[]}",
                "{\"id\":3,\"prompt\":\"The\",\"max_tokens\":0}"));
    Path out = folder.resolve("out.jsonl");
    Local.halter(1, "batch", "--model", Local.MODEL, "--in", in, "--out", out, "--max-tokens", 8);
    Path table = folder.resolve("t.parquet");
    Local.halter(0, "table", out, "--out", table);
    Dataset<Row> read = spark.read().parquet(table.toString());
    Dataset<Row> made = batch(Local.lines(spark, in, 1)).run();
    assertEquals(List.of(made.schema().fieldNames()), List.of(read.schema().fieldNames()));
    for (String name : made.schema().fieldNames()) {
      assertEquals(
          made.schema().apply(name).dataType().simpleString(),
          read.schema().apply(name).dataType().simpleString());
    }
    Map<String, List<Object>> rows = Local.results(read.drop("error").withColumn("error", lit(1)));
    Map<String, List<Object>> ours = Local.results(made.drop("error").withColumn("error", lit(1)));
    assertEquals(rows, ours);
    assertTrue(rows.get("a").get(7).toString().startsWith("[null,"), rows.get("a").toString());
    // And through Spark's own files.
    made.write().parquet(folder.resolve("made").toString());
    assertEquals(
        rows,
        Local.results(
            spark
                .read()
                .parquet(folder.resolve("made").toString())
                .drop("error")
                .withColumn("error", lit(1))));
  }

  @Test
  void linesAreAColumnOfText() {
    Dataset<Row> lines =
        spark
            .createDataset(
                List.of("{\"id\": 1, \"prompt\": \"The\"}", "{\"id\": 2,", "", "[]"),
                Encoders.STRING())
            .toDF()
            .coalesce(1);
    List<Row> answers = batch(lines).run().collectAsList();
    assertNull(answers.get(0).getAs("error"));
    assertEquals(3, answers.size(), "a blank line is none");
    for (int i = 1; i < 3; i++) {
      String error = answers.get(i).getAs("error");
      assertTrue(error.contains("JSON"), error);
      assertNull(answers.get(i).getAs("id"));
    }
  }
}
