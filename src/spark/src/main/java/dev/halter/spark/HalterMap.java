package dev.halter.spark;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Scope;
import dev.halter.files.Shard;
import dev.halter.generation.LanguageModel;
import dev.halter.model.LlamaWeights;
import dev.halter.neurons.MapExport;
import dev.halter.neurons.NeuronMap;
import dev.halter.text.Tokenizer;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.io.Serializable;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.SparkSession;

/**
 * Decodes every MLP neuron of a model into tokens through the LM head, layer by layer, a row for
 * each kept token:
 *
 * <pre>{@code
 * Dataset<Row> map = HalterMap.on(spark).model("/models/llama").projection("up").top(10).run();
 * }</pre>
 *
 * <p><b>Out.</b> The columns of {@code halter map --export} ({@link MapExport#COLUMNS}), in as many
 * partitions as the model has layers, in their order. The driver reads the model's config, so it
 * must see the folder too.
 */
public final class HalterMap extends ModelJob<HalterMap> {
  private final SparkSession spark;
  private NeuronMap.Projection projection = NeuronMap.Projection.UP;
  private NeuronMap.Decode decode = NeuronMap.Decode.RAW;
  private NeuronMap.Sign sign = NeuronMap.Sign.BOTH;
  private int top = NeuronMap.KEPT;

  private HalterMap(SparkSession spark) {
    this.spark = spark;
  }

  /** Maps on the executors of a session. */
  public static HalterMap on(SparkSession spark) {
    return new HalterMap(spark);
  }

  @Override
  HalterMap self() {
    return this;
  }

  /** {@code "up"} (the default), {@code "gate"} or {@code "down"}. */
  public HalterMap projection(String name) {
    projection = setting(NeuronMap.Projection.class, name);
    return this;
  }

  /** {@code "raw"} (the default), {@code "unit"} or {@code "norm"}. */
  public HalterMap decode(String name) {
    decode = setting(NeuronMap.Decode.class, name);
    return this;
  }

  /** {@code "both"} (the default), {@code "plus"} or {@code "minus"}. */
  public HalterMap sign(String name) {
    sign = setting(NeuronMap.Sign.class, name);
    return this;
  }

  /** Tokens kept of each neuron and sign; {@link NeuronMap#KEPT} if left out. */
  public HalterMap top(int count) {
    top = count;
    return this;
  }

  static <E extends Enum<E>> E setting(Class<E> type, String name) {
    for (E each : type.getEnumConstants()) {
      if (NeuronMap.name(each).equals(name.toLowerCase(Locale.ROOT))) {
        return each;
      }
    }
    throw new IllegalArgumentException(
        "no '%s' among %s".formatted(name, List.of(type.getEnumConstants())));
  }

  /**
   * The map, which is made each time that it is asked for.
   *
   * @throws IllegalArgumentException if there is no model
   */
  public Dataset<Row> run() {
    int layers = ModelConfig.read(ModelSettings.local(settings().folder())).nLayers();
    Partition partition = new Partition(settings(), layers, projection, decode, sign, top);
    return spark
        .range(0, layers, 1, layers)
        .mapPartitions(partition, Encoders.row(RowJson.schema(MapExport.COLUMNS)));
  }

  /** What a task does with its layers. */
  private record Partition(
      ModelSettings settings,
      int layers,
      NeuronMap.Projection projection,
      NeuronMap.Decode decode,
      NeuronMap.Sign sign,
      int top)
      implements MapPartitionsFunction<Long, Row>, Serializable {

    @Override
    public Iterator<Row> call(Iterator<Long> wanted) {
      TaskContext task = TaskContext.get();
      Place place = Place.of(settings.device(), task);
      Head head =
          ExecutorCache.take(place, Head.class, settings, task, () -> new Head(settings, place));
      return new ChunkedRows() {
        @Override
        Iterator<Row> more() {
          return wanted.hasNext() ? layer((int) (long) wanted.next(), head) : null;
        }
      };
    }

    private Iterator<Row> layer(int layer, Head head) {
      NeuronMap map = head.map(new Shard(layer, layers), projection, decode, sign, top);
      return IntStream.range(0, map.tokenIds().length)
          .mapToObj(
              place -> {
                Object[] cells = MapExport.row(map, head.tokenizer::piece, place).toArray();
                cells[0] = layer; // it is the map's only one
                return RowFactory.create(cells);
              })
          .iterator();
    }
  }

  /** The LM head on a device, and where the neurons' weights are. */
  private static final class Head implements ExecutorCache.Kept {
    final Tokenizer tokenizer;
    private final Place place;
    private final ModelConfig config;
    private final Device device;
    private final Checkpoint checkpoint;
    private final Scope scope;
    private final LlamaWeights.Linear weights;

    Head(ModelSettings settings, Place place) {
      this.place = place;
      Path folder = ModelSettings.local(settings.folder());
      config = ModelConfig.read(folder);
      tokenizer = Tokenizer.load(folder);
      checkpoint = Checkpoint.open(folder);
      checkpoint.require(config);
      device = Devices.open(place.device(), settings.threadsHere(), true);
      scope = device.scope();
      DType type = LanguageModel.activations(settings.dtype(), device, checkpoint);
      weights = LlamaWeights.head(scope, checkpoint, config, type);
    }

    synchronized NeuronMap map(
        Shard layer,
        NeuronMap.Projection projection,
        NeuronMap.Decode decode,
        NeuronMap.Sign sign,
        int top) {
      NeuronMap.Source source = new NeuronMap.Source(device, config, checkpoint, weights, layer);
      return ExecutorEnd.onFailure(
          place, () -> NeuronMap.of(source, projection, decode, sign, top, done -> {}));
    }

    @Override
    public boolean isBroken() {
      return false;
    }

    @Override
    public void close() {
      scope.close();
      checkpoint.close();
      device.close();
      tokenizer.close();
    }
  }
}
