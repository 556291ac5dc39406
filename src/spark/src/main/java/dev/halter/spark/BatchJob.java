package dev.halter.spark;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.get_json_object;

import dev.halter.cli.SparkJobOptions;
import dev.halter.cli.SparkModelOptions;
import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Callable;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SaveMode;
import org.apache.spark.sql.SparkSession;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/**
 * {@link HalterBatch} from a dataset that Spark reads to one that it writes, for {@code
 * spark-submit}; {@code halter spark-batch} prints the command. Rows that fail are counted and no
 * failure of the job, which a cluster would start anew.
 */
@Command(name = "BatchJob", mixinStandardHelpOptions = true)
public final class BatchJob implements Callable<Integer> {
  @Mixin private SparkModelOptions model;
  @Mixin private SparkJobOptions job;

  private BatchJob() {}

  /** Runs the job in the session that spark-submit sets up. */
  public static void main(String... arguments) {
    int status = run(arguments);
    if (status != 0) {
      System.exit(status);
    }
    SparkSession.active().stop();
  }

  static int run(String... arguments) {
    return new CommandLine(new BatchJob())
        .setExecutionExceptionHandler(
            (failure, line, parsed) -> {
              if (failure instanceof IllegalArgumentException) {
                System.err.println("halter: " + failure.getMessage());
                return 2;
              }
              throw failure;
            })
        .execute(arguments);
  }

  @Override
  public Integer call() {
    // spark-submit has set what it is; alone it is what spark.master says.
    SparkSession spark = SparkSession.builder().appName("halter batch").getOrCreate();
    if (job.resume) {
      // A task's rows are there once it ends, not when the job does.
      spark
          .sparkContext()
          .hadoopConfiguration()
          .set("mapreduce.fileoutputcommitter.algorithm.version", "2");
    }
    HalterBatch batch =
        HalterBatch.on(rows(spark))
            .model(model.model)
            .device(model.device)
            .dtype(model.dtype)
            .threads(model.threads)
            .context(model.context)
            .maxBatch(job.maxBatch)
            .plans(job.plans)
            .maxTokens(job.maxTokens)
            .temperature(job.temperature)
            .seed(job.seed)
            .keep(job.keep.toArray(String[]::new));
    job.plan.forEach(batch::plan);
    job.set.forEach((key, value) -> batch.option(key, value(value)));
    batch
        .run()
        .write()
        .mode(job.resume ? SaveMode.Append : SaveMode.ErrorIfExists)
        .parquet(job.out);
    BatchMetrics metrics = batch.metrics();
    System.out.printf(
        "%,d rows: %,d failed; %,d tokens generated; %d engines, opened in %.1f s; batch full in %.1f%%"
            + " of steps: %s%n",
        metrics.rows(),
        metrics.failedRows(),
        metrics.generatedTokens(),
        metrics.engines().size(),
        metrics.opening().toMillis() / 1e3,
        100 * metrics.fullShare(),
        job.out);
    return 0;
  }

  private Dataset<Row> rows(SparkSession spark) {
    boolean isLines = job.in.endsWith(".jsonl") || job.in.endsWith(".jsonl.gz");
    Dataset<Row> rows = isLines ? spark.read().text(job.in) : spark.read().parquet(job.in);
    if (job.resume && isThere(spark)) {
      Dataset<Row> answered =
          spark.read().parquet(job.out).where("error is null").select(col("id").as("answered"));
      rows =
          rows.join(
              answered,
              (isLines
                      ? get_json_object(col(RowJson.LINE), "$.id")
                      : col(RowJson.ID).cast("string"))
                  .equalTo(col("answered")),
              "left_anti");
    }
    return job.partitions == 0 ? rows : rows.repartition(job.partitions);
  }

  private boolean isThere(SparkSession spark) {
    try {
      Path out = new Path(job.out);
      return out.getFileSystem(spark.sparkContext().hadoopConfiguration()).exists(out);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** As a line of JSON would have it; what is none is a text. */
  private static Object value(String text) {
    try {
      Object value =
          JsonObject.parseList(
                  java.nio.file.Path.of("--set"), "v", text.getBytes(StandardCharsets.UTF_8))
              .value("v");
      return value == null ? text : value;
    } catch (BadFileException e) {
      return text;
    }
  }
}
