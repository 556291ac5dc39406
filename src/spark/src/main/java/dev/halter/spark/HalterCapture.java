package dev.halter.spark;

import dev.halter.files.JsonObject;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import dev.halter.generation.Result;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.steering.PlanCache;
import dev.halter.weights.ModelConfig;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;

/**
 * Reads the activations of a dataset's prompts, a row for each vector:
 *
 * <pre>{@code
 * Dataset<Row> vectors =
 *     HalterCapture.on(prompts).model("/models/llama")
 *         .sites("blocks.*.hook_resid_post").positions(-1).run();
 * }</pre>
 *
 * <p><b>In.</b> {@code id}, one of {@code prompt}, {@code messages}, {@code tokens}, and {@code
 * plan}, as for {@link HalterBatch}; nothing is generated.
 *
 * <p><b>Out.</b> {@code id}, {@code site}, {@code position} (of the token, from 0), {@code head}
 * (null where a site has none), {@code vector} (f32: d_model or d_mlp values, d_head of {@code
 * hook_z}, as many as the prompt has tokens of {@code hook_pattern}, whom the token looks at),
 * {@code error}. A row that cannot be read has its id and its error alone.
 */
public final class HalterCapture extends ModelJob<HalterCapture> {
  private static final List<String> KEYS =
      Stream.concat(RequestJson.PROMPTS.stream(), Stream.of("plan")).toList();

  private static final StructType SCHEMA =
      new StructType()
          .add("id", DataTypes.StringType)
          .add("site", DataTypes.StringType)
          .add("position", DataTypes.IntegerType)
          .add("head", DataTypes.IntegerType)
          .add("vector", DataTypes.createArrayType(DataTypes.FloatType, false))
          .add("error", DataTypes.StringType);

  /** Prompts whose activations are in memory at once, for each task. */
  private static final int OPEN = 8;

  private final Dataset<Row> rows;
  private List<String> sites = List.of();
  private List<Integer> positions = List.of();
  private String plans = ".";

  private HalterCapture(Dataset<Row> rows) {
    this.rows = rows;
  }

  /** Reads these prompts. */
  public static HalterCapture on(Dataset<Row> rows) {
    return new HalterCapture(rows);
  }

  @Override
  HalterCapture self() {
    return this;
  }

  /** TransformerLens names, {@code logits} or {@code all}; {@code *} for every layer. */
  public HalterCapture sites(String... names) {
    sites = List.of(names);
    return this;
  }

  /** Tokens whose vectors are told, negative from the end; none, the default, for all. */
  public HalterCapture positions(int... tokens) {
    positions = IntStream.of(tokens).boxed().toList();
    return this;
  }

  /** As {@link HalterBatch#plans}. */
  public HalterCapture plans(String folder) {
    plans = folder;
    return this;
  }

  /**
   * The vectors, which are computed each time that they are asked for.
   *
   * @throws IllegalArgumentException if there is no model, no site, or a column that would go
   *     unread
   */
  public Dataset<Row> run() {
    if (sites.isEmpty()) {
      throw new IllegalArgumentException(
          "no site: name some with sites(\"blocks.*.hook_resid_post\")");
    }
    Dataset<Row> read = RowJson.checked(rows, KEYS, List.of());
    BatchMetrics metrics = new BatchMetrics(rows.sparkSession().sparkContext());
    Partition partition = new Partition(settings(), plans, sites, positions, metrics);
    return read.mapPartitions(partition, Encoders.row(SCHEMA));
  }

  /** What a task does with its rows. */
  private record Partition(
      ModelSettings settings,
      String plans,
      List<String> sites,
      List<Integer> positions,
      BatchMetrics metrics)
      implements MapPartitionsFunction<Row, Row>, Serializable {

    @Override
    public Iterator<Row> call(Iterator<Row> rows) {
      TaskContext task = TaskContext.get();
      SharedEngine shared = SharedEngine.of(settings, task, metrics);
      PlanCache cache = shared.plans(plans, List.of());
      Set<Site> read = new LinkedHashSet<>();
      sites.forEach(name -> read.addAll(Site.expand(name, shared.model().config())));
      return new FedRows(
          rows,
          row -> new Job(row, read, positions, shared, cache),
          shared,
          metrics,
          task,
          OPEN,
          OPEN);
    }
  }

  /** A row as a request that reads its prompt alone. */
  private static final class Job implements RowJob {
    private final Row row;
    private final Set<Site> sites;
    private final List<Integer> positions;
    private final SharedEngine shared;
    private final PlanCache plans;
    private String id;

    Job(Row row, Set<Site> sites, List<Integer> positions, SharedEngine shared, PlanCache plans) {
      this.row = row;
      this.sites = sites;
      this.positions = positions;
      this.shared = shared;
      this.plans = plans;
    }

    @Override
    public Request request() {
      JsonObject json = RowJson.of(row, KEYS, Map.of());
      id = RowJson.id(json);
      Request request = RequestJson.DEFAULT.request(json, id, shared.model(), plans);
      int length = request.prompt().length;
      if (length == 0) {
        return request.withMaxTokens(0); // which says what is wrong with it
      }
      int first = tokens(length).min().orElse(0);
      return request
          .withMaxTokens(0)
          .with(new Capture(shared.model().config(), sites, length, first));
    }

    /** The tokens of a prompt that are told of. */
    private IntStream tokens(int length) {
      if (positions.isEmpty()) {
        return IntStream.range(0, length);
      }
      for (int position : positions) {
        if (position < -length || position >= length) {
          throw new IllegalArgumentException(
              "there is no position %d in a prompt of %d tokens".formatted(position, length));
        }
      }
      return positions.stream().mapToInt(each -> each < 0 ? length + each : each).distinct();
    }

    @Override
    public List<Row> answered(Result result) {
      Capture capture = result.request().capture();
      List<Row> vectors = new ArrayList<>();
      for (Site site : capture.sites()) {
        tokens(capture.length()).forEach(token -> add(vectors, capture, site, token));
      }
      return vectors;
    }

    private void add(List<Row> vectors, Capture capture, Site site, int token) {
      float[] values = capture.at(site, token);
      int heads = heads(site);
      int width = values.length / Math.max(1, heads);
      for (int head = 0; head < Math.max(1, heads); head++) {
        vectors.add(
            RowFactory.create(
                id,
                site.name(),
                token,
                heads == 0 ? null : head,
                Arrays.copyOfRange(values, head * width, (head + 1) * width),
                null));
      }
    }

    /** How many heads a token's values at a site are of; 0 if they are of none. */
    private int heads(Site site) {
      ModelConfig config = shared.model().config();
      if (site.kind() == Site.Kind.PATTERN) {
        return config.nHeads();
      }
      int[] shape = site.shape(config);
      return shape.length == 2 ? shape[0] : 0;
    }

    @Override
    public Row failed(String problem) {
      return RowFactory.create(RowJson.id(row), null, null, null, null, RowJson.problem(problem));
    }
  }
}
