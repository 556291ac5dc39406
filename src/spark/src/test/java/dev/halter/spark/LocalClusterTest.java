package dev.halter.spark;

import static org.apache.spark.sql.functions.col;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A master, a worker and two executors, each a process, on a machine whose discovery script tells
 * of two GPUs. Under each address the model runs on the CPU.
 */
class LocalClusterTest {
  private static final int ROWS = 2000;
  private static final int PLANS = 100;

  @TempDir static Path folder;

  private static SparkSession spark;
  private static Path in;
  private static Map<String, List<Object>> expected;

  @BeforeAll
  static void start() throws Exception {
    in = Files.write(folder.resolve("in.jsonl"), lines());
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
        256);
    expected = Local.results(out);
    SparkSession.getDefaultSession()
        .foreach(
            other -> {
              other.stop();
              return null;
            });
    spark = Local.cluster(2, folder);
  }

  @AfterAll
  static void stop() {
    spark.stop();
  }

  /** Every row with one of a hundred plans, every second one drawn, one that cannot be answered. */
  private static List<String> lines() {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < ROWS; i++) {
      lines.add(
          i == 777
              ? "{\"id\":777,\"tokens\":[999999]}"
              : ("{\"id\":%d,\"prompt\":\"The %s\",\"temperature\":%d,\"plan\":{\"interventions\":[{\"op\":"
                      + "\"neuron_clamp\",\"site\":\"blocks.1.mlp.hook_pre_linear\",\"neurons\":[%d],"
                      + "\"value\":-20}]}}")
                  .formatted(i, i % 3 == 0 ? "dog" : "cat", i % 2, i * 7 % PLANS));
    }
    return lines;
  }

  private static HalterBatch batch(Dataset<Row> rows) {
    return HalterBatch.on(rows)
        .model(Local.MODEL.toString())
        .device("cpu")
        .maxTokens(8)
        .context(256);
  }

  private static void assertExpected(Map<String, List<Object>> rows) {
    assertEquals(new TreeSet<>(expected.keySet()), new TreeSet<>(rows.keySet()));
    rows.forEach(
        (id, row) -> {
          if (!id.equals("777")) {
            assertEquals(expected.get(id), row, id);
          }
        });
    List<Object> bad = rows.get("777");
    assertTrue(bad.getLast().toString().contains("999999"), bad.toString());
    assertTrue(bad.subList(1, bad.size() - 1).stream().allMatch(cell -> cell == null));
  }

  @Test
  void twoExecutorsOfOneGpuEachAnswerAsHalterBatch() {
    HalterBatch batch = batch(Local.lines(spark, in, 8));
    assertExpected(Local.results(batch.run()));
    assertEquals(ROWS, batch.metrics().rows());
    assertEquals(1, batch.metrics().failedRows());
    assertEquals(
        List.of("cpu (GPU address 0)", "cpu (GPU address 1)"),
        batch.metrics().engines().stream().sorted().toList(),
        "an engine for each address, loaded once");
    // Greedy answers to one question differ by their plans alone.
    assertTrue(
        IntStream.range(0, PLANS)
                .map(i -> 3 * 2 * i)
                .mapToObj(i -> expected.get(String.valueOf(i)).get(1))
                .distinct()
                .count()
            > 3);

    HalterBatch again = batch(Local.lines(spark, in, 2).limit(40));
    assertEquals(40, again.run().count());
    assertEquals(List.of(), again.metrics().engines(), "which is still there");
  }

  @Test
  void anExecutorThatIsKilledHalfWayChangesNothing() {
    Path mark = folder.resolve("killed");
    Dataset<Row> lines = Local.lines(spark, in, 8);
    Dataset<Row> deadly =
        lines.map(new Killer("{\"id\":1000,", mark.toString()), Encoders.row(lines.schema()));
    assertFalse(Files.exists(mark));
    assertExpected(Local.results(batch(deadly).run()));
    assertTrue(Files.exists(mark), "an executor was killed");
  }

  @Test
  void pairsAreSweptOnBothAndMeansAreExact() {
    List<String> pairs = new ArrayList<>();
    for (int i = 0; i < 12; i++) {
      pairs.add(
          "{\"id\":%d,\"reference_tokens\":[5,%d,20],\"counterfactual_tokens\":[5,11,20],\"answer_token\":%d}"
              .formatted(i, 40 + i, 30 + i));
    }
    Dataset<Row> lines = spark.createDataset(pairs, Encoders.STRING()).toDF();
    List<List<Row>> means = new ArrayList<>();
    for (int partitions : new int[] {1, 5}) {
      means.add(
          HalterPatching.on(lines.repartition(partitions, col("value")))
              .model(Local.MODEL.toString())
              .device("cpu")
              .context(64)
              .run()
              .collectAsList());
    }
    assertEquals(4 * 7, means.getFirst().size());
    assertEquals(means.getFirst(), means.getLast());
  }
}
