package dev.halter.spark;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import dev.halter.generation.Result;
import dev.halter.generation.ResultJson;
import dev.halter.generation.ResultTable;
import dev.halter.generation.Sampling;
import dev.halter.steering.PlanCache;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.types.StructType;

/**
 * Answers the rows of a dataset, each steered by its own plan:
 *
 * <pre>{@code
 * Dataset<Row> answers =
 *     HalterBatch.on(prompts).model("/models/llama").plans("/plans").maxTokens(64).run();
 * answers.write().parquet("/answers");
 * }</pre>
 *
 * <p><b>In.</b> Columns as the keys of a line of {@code halter batch}: {@code id}, one of {@code
 * prompt}, {@code messages} (a list of structs, or JSON) and {@code tokens}, and those of {@link
 * RequestJson#KEYS} that rows are to differ in: {@code plan} is a plan as JSON or the name of one
 * of {@link #plans}. A dataset of one column {@code value} of text is such lines themselves.
 *
 * <p><b>Out.</b> A row for each, in the order of its partition: the columns of {@code halter table}
 * ({@link ResultTable#COLUMNS}), then those that are {@linkplain #keep kept}. A row that cannot be
 * answered has its {@code error} and costs no other anything. Rows are those of {@code halter
 * batch} for the same lines: a row without a seed draws by {@link #seed} and its id, so that a task
 * that is run again writes the same. Ids should differ; equal ones draw alike.
 *
 * <p><b>Where.</b> One engine for each executor and GPU address, loaded once and shared by its
 * tasks. A model that cannot be opened fails the job. An engine that fails, such as by an error
 * that poisons its CUDA context, ends its executor, which Spark replaces.
 */
public final class HalterBatch extends ModelJob<HalterBatch> {
  private static final List<String> KEYS =
      Stream.concat(RequestJson.PROMPTS.stream(), RequestJson.KEYS.stream()).toList();

  /** What options cannot be for all rows. */
  private static final Set<String> BY_ROW = Set.of("plan", "seed");

  private final Map<String, Object> options = new LinkedHashMap<>();
  private final List<String> first = new ArrayList<>();
  private Dataset<Row> rows;
  private String plans = ".";
  private long seed;
  private List<String> kept = List.of();
  private int ahead;
  private BatchMetrics metrics;

  private HalterBatch(Dataset<Row> rows) {
    this.rows = rows;
  }

  /** Answers these rows. */
  public static HalterBatch on(Dataset<Row> rows) {
    return new HalterBatch(rows);
  }

  @Override
  HalterBatch self() {
    return this;
  }

  /** The folder of plans that are named, as every executor sees it; vectors are found from it. */
  public HalterBatch plans(String folder) {
    plans = folder;
    return this;
  }

  /**
   * Steers every row by a plan, before the row's own: the name of one of {@link #plans}, or JSON.
   * Several act in the order of the calls.
   */
  public HalterBatch plan(String nameOrJson) {
    first.add(nameOrJson);
    return this;
  }

  /** Steers each row by the plan that this column holds, JSON or the name of one. */
  public HalterBatch plan(Column column) {
    rows = rows.withColumn("plan", column);
    return this;
  }

  /** Most tokens of an answer, for rows that do not say; {@link Request#MAX_TOKENS} if left out. */
  public HalterBatch maxTokens(int count) {
    return option("max_tokens", count);
  }

  /** Temperature for rows that do not say; 0, the default, is greedy. */
  public HalterBatch temperature(double value) {
    return option("temperature", value);
  }

  /**
   * What is so for rows that do not say: a key of a line of {@code halter batch}, such as {@code
   * top_p} or {@code logprobs}.
   *
   * @throws IllegalArgumentException if it is none, or only a row's
   */
  public HalterBatch option(String key, Object value) {
    if (!RequestJson.KEYS.contains(key) || BY_ROW.contains(key)) {
      throw new IllegalArgumentException(
          "no option '%s': there are %s; plan(…) and seed(…) have methods of their own"
              .formatted(
                  key,
                  String.join(
                      ", ",
                      RequestJson.KEYS.stream().filter(each -> !BY_ROW.contains(each)).toList())));
    }
    options.put(key, value);
    return this;
  }

  /** Seed of the draws; 0 is the default. A row's own stream is of this and its id. */
  public HalterBatch seed(long newSeed) {
    seed = newSeed;
    return this;
  }

  /** Columns that are passed on beside the result. */
  public HalterBatch keep(String... columns) {
    kept = List.of(columns);
    return this;
  }

  /** Requests that a task has open at once; 0, the default, is twice the batch of its engine. */
  public HalterBatch ahead(int requests) {
    if (requests < 0) {
      throw new IllegalArgumentException("ahead is " + requests + ", must be 0 or more");
    }
    ahead = requests;
    return this;
  }

  /** What executors have done for the dataset that {@link #run} gave last; null before. */
  public BatchMetrics metrics() {
    return metrics;
  }

  /**
   * The results, which are computed each time that they are asked for, as any dataset: write them,
   * or cache them, before asking twice.
   *
   * @throws IllegalArgumentException if there is no model, or a column that would go unread
   */
  public Dataset<Row> run() {
    Dataset<Row> read = RowJson.checked(rows, KEYS, kept);
    RowJson.parse(Json.text(options)); // that it is JSON at all
    metrics = new BatchMetrics(rows.sparkSession().sparkContext());
    StructType schema = RowJson.schema(ResultTable.COLUMNS);
    for (String column : kept) {
      schema = schema.add(rows.schema().apply(column));
    }
    Partition partition =
        new Partition(
            settings(), plans, List.copyOf(first), Json.text(options), seed, kept, ahead, metrics);
    return read.mapPartitions(partition, Encoders.row(schema));
  }

  /** What a task does with its rows. */
  private record Partition(
      ModelSettings settings,
      String plans,
      List<String> first,
      String options,
      long seed,
      List<String> kept,
      int ahead,
      BatchMetrics metrics)
      implements MapPartitionsFunction<Row, Row>, Serializable {

    @Override
    public Iterator<Row> call(Iterator<Row> rows) {
      TaskContext task = TaskContext.get();
      SharedEngine shared = SharedEngine.of(settings, task, metrics);
      PlanCache cache = shared.plans(plans, first);
      RequestJson requests = RequestJson.DEFAULT.with(Sampling.GREEDY.withSeed(seed));
      Map<String, Object> defaults = RowJson.parse(options).values();
      int open = ahead == 0 ? 2 * shared.maxBatch() : ahead;
      return new FedRows(
          rows,
          row -> new Job(row, kept, defaults, requests, shared, cache),
          shared,
          metrics,
          task,
          open,
          FedRows.KEPT * open);
    }
  }

  /** A row as a request. */
  private static final class Job implements RowJob {
    private final Row row;
    private final List<String> kept;
    private final Map<String, Object> defaults;
    private final RequestJson requests;
    private final SharedEngine shared;
    private final PlanCache plans;
    private JsonObject json;

    Job(
        Row row,
        List<String> kept,
        Map<String, Object> defaults,
        RequestJson requests,
        SharedEngine shared,
        PlanCache plans) {
      this.row = row;
      this.kept = kept;
      this.defaults = defaults;
      this.requests = requests;
      this.shared = shared;
      this.plans = plans;
    }

    @Override
    public Request request() {
      json = RowJson.of(row, KEYS, defaults);
      return requests.request(json, RowJson.id(json), shared.model(), plans);
    }

    @Override
    public List<Row> answered(Result result) {
      String text = shared.model().hasTokenizer() ? shared.model().decode(result.tokens()) : null;
      Map<String, Object> document = Json.object("id", RowJson.id(json));
      document.putAll(ResultJson.of(result, text, requests.tellsLogProbabilities(json)));
      return List.of(row(document));
    }

    @Override
    public Row failed(String problem) {
      return row(Json.object("id", RowJson.id(row), "error", RowJson.problem(problem)));
    }

    /** As {@code halter table} makes one of a line. */
    private Row row(Map<String, Object> document) {
      List<Object> cells = new ArrayList<>();
      ResultTable.row(document).forEach(value -> cells.add(RowJson.cell(value)));
      kept.forEach(column -> cells.add(row.getAs(column)));
      return RowFactory.create(cells.toArray());
    }
  }
}
