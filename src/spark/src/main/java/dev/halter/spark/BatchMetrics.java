package dev.halter.spark;

import dev.halter.generation.EngineMetrics;
import dev.halter.generation.Result;
import java.io.Serializable;
import java.time.Duration;
import java.util.List;
import org.apache.spark.SparkContext;
import org.apache.spark.util.CollectionAccumulator;
import org.apache.spark.util.LongAccumulator;

/**
 * What the executors have done for a dataset, summed as their tasks end; Spark's pages show it too,
 * by stage. A task that is run again counts again, as with every accumulator of a transformation.
 */
public final class BatchMetrics implements Serializable {
  private static final long serialVersionUID = 1L;

  private final LongAccumulator rows;
  private final LongAccumulator failed;
  private final LongAccumulator promptTokens;
  private final LongAccumulator generatedTokens;
  private final LongAccumulator steps;
  private final LongAccumulator fullSteps;
  private final LongAccumulator openingMillis;
  private final CollectionAccumulator<String> places;

  BatchMetrics(SparkContext spark) {
    rows = spark.longAccumulator("halter rows");
    failed = spark.longAccumulator("halter failed rows");
    promptTokens = spark.longAccumulator("halter prompt tokens");
    generatedTokens = spark.longAccumulator("halter generated tokens");
    steps = spark.longAccumulator("halter steps");
    fullSteps = spark.longAccumulator("halter full steps");
    openingMillis = spark.longAccumulator("halter opening ms");
    places = spark.collectionAccumulator("halter engines");
  }

  /** Rows that were answered or have failed. */
  public long rows() {
    return rows.value();
  }

  /** Those that have failed. */
  public long failedRows() {
    return failed.value();
  }

  /** Tokens of answered rows' prompts. */
  public long promptTokens() {
    return promptTokens.value();
  }

  /** Tokens of answers. */
  public long generatedTokens() {
    return generatedTokens.value();
  }

  /** Steps that the engines ran, whatever for, while tasks of this dataset ran. */
  public long steps() {
    return steps.value();
  }

  /** The share of those steps in which no other request had room; NaN if there was none. */
  public double fullShare() {
    return steps.value() == 0 ? Double.NaN : (double) fullSteps.value() / steps.value();
  }

  /** What it took to open engines, added up. */
  public Duration opening() {
    return Duration.ofMillis(openingMillis.value());
  }

  /** Where engines were opened: the device, and the address of its GPU. */
  public List<String> engines() {
    return List.copyOf(places.value());
  }

  void answered(Result result) {
    rows.add(1);
    promptTokens.add(result.request().prompt().length);
    generatedTokens.add(result.tokens().length);
  }

  void failed() {
    rows.add(1);
    failed.add(1);
  }

  /** From the one to the other. */
  void stepped(EngineMetrics... span) {
    steps.add(span[1].steps() - span[0].steps());
    fullSteps.add(span[1].fullSteps() - span[0].fullSteps());
  }

  void opened(Place place, Duration taken) {
    openingMillis.add(taken.toMillis());
    places.add(place.toString());
  }
}
