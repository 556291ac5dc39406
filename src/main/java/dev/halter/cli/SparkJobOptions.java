package dev.halter.cli;

import dev.halter.generation.Request;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import picocli.CommandLine.Option;

/** What {@code halter spark-batch} is told and the job of halter-spark that it starts is told. */
public final class SparkJobOptions {
  @Option(
      names = "--in",
      paramLabel = "F",
      required = true,
      description =
          "Rows, wherever Spark reads: lines as of halter batch if it ends in .jsonl or .jsonl.gz,"
              + " else Parquet.")
  public String in;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Results to write, as Parquet.")
  public String out;

  @Option(
      names = "--plans",
      paramLabel = "DIR",
      defaultValue = ".",
      description = "Folder of plans that rows name, as every executor sees it.")
  public String plans;

  @Option(
      names = "--plan",
      paramLabel = "P",
      description = "Steering plan for every row, a name or JSON, before the row's own.")
  public List<String> plan = new ArrayList<>();

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "" + Request.MAX_TOKENS,
      description = "Most tokens per row that names none (default: ${DEFAULT-VALUE}).")
  public int maxTokens;

  @Option(
      names = "--temperature",
      paramLabel = "X",
      defaultValue = "0",
      description = "For rows that name none; 0 = greedy (default).")
  public double temperature;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  public long seed;

  @Option(
      names = "--set",
      paramLabel = "K=V",
      description =
          "Another key of a line of halter batch, for rows without it, such as top_p=0.9.")
  public Map<String, String> set = new LinkedHashMap<>();

  @Option(
      names = "--keep",
      paramLabel = "C",
      split = ",",
      description = "Columns to pass on beside the result.")
  public List<String> keep = new ArrayList<>();

  @Option(
      names = "--partitions",
      paramLabel = "N",
      defaultValue = "0",
      description = "Parts of the work, each a task (default: as the input lies).")
  public int partitions;

  @Option(
      names = "--resume",
      description = "Do only the rows that --out has no answer of; each task's are there at once.")
  public boolean resume;

  @Option(
      names = "--max-batch",
      paramLabel = "N",
      defaultValue = "0",
      description = "Most rows at once on an engine (default: as suits the device).")
  public int maxBatch;
}
