package dev.halter.spark;

import dev.halter.files.Json;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * Times batches on a local Spark, for bench/spark and bench/scale:
 *
 * <pre>SparkFigures LINES EXECUTORS MAX_TOKENS THREADS RUN…</pre>
 *
 * <p>0 executors: two tasks of this process share an engine of THREADS threads. Else a cluster of
 * executors of one core. A run is a number of partitions, or {@code N:ROW}, where the executor that
 * first comes to the line that begins with ROW is killed. Prints a line of JSON for each run;
 * engines are open and warm before the first.
 */
final class SparkFigures {
  private SparkFigures() {}

  public static void main(String... arguments) throws Exception {
    Path lines = Path.of(arguments[0]);
    int executors = Integer.parseInt(arguments[1]);
    int maxTokens = Integer.parseInt(arguments[2]);
    int threads = Integer.parseInt(arguments[3]);
    Path folder = Files.createTempDirectory("halter-spark");
    try (SparkSession spark = executors == 0 ? Local.spark() : Local.cluster(executors, folder)) {
      Dataset<Row> rows = spark.read().text(lines.toString()).cache();
      long count = rows.count();
      timed(batch(rows.repartition(Math.max(2, 2 * executors)), maxTokens, threads));
      for (int i = 4; i < arguments.length; i++) {
        String[] run = arguments[i].split(":", 2);
        int partitions = Integer.parseInt(run[0]);
        Dataset<Row> parts = rows.repartition(partitions);
        if (run.length == 2) {
          String mark = folder.resolve("killed" + i).toString();
          parts = parts.map(new Killer(run[1], mark), Encoders.row(rows.schema()));
        }
        HalterBatch batch = batch(parts, maxTokens, threads);
        double seconds = timed(batch);
        BatchMetrics metrics = batch.metrics();
        System.out.println(
            Json.text(
                Json.object(
                    "run", arguments[i],
                    "rows", count,
                    "seconds", seconds,
                    "full_share", metrics.fullShare(),
                    "steps", metrics.steps(),
                    "generated_tokens", metrics.generatedTokens(),
                    "failed", metrics.failedRows())));
      }
    }
  }

  private static HalterBatch batch(Dataset<Row> rows, int maxTokens, int threads) {
    return HalterBatch.on(rows)
        .model(Local.MODEL.toString())
        .device("cpu")
        .threads(threads)
        .maxTokens(maxTokens)
        .option("ignore_eos", true);
  }

  private static double timed(HalterBatch batch) {
    long start = System.nanoTime();
    batch.run().write().format("noop").mode("overwrite").save();
    return (System.nanoTime() - start) / 1e9;
  }
}
