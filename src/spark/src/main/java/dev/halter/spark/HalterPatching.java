package dev.halter.spark;

import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.patching.Effects;
import dev.halter.patching.EffectsTable;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;

/**
 * Measures by exact path patching what every head and MLP does to the answer of pairs of prompts:
 *
 * <pre>{@code
 * HalterPatching patching = HalterPatching.on(pairs).model("/models/llama");
 * Dataset<Row> means = patching.run();
 * Dataset<Row> each = patching.byPair();
 * }</pre>
 *
 * <p><b>In.</b> {@code id} and columns as the keys of a line of {@code halter heads patch}: {@code
 * reference} or {@code reference_tokens}, {@code counterfactual} or {@code counterfactual_tokens},
 * {@code answer} or {@code answer_token}, and {@code foil}, {@code foil_token}, {@code label}.
 *
 * <p><b>Out.</b> The columns of {@code halter table} ({@link EffectsTable#COLUMNS}), a row for each
 * head and MLP, layer by layer. Means are of exact sums, rounded once: however the pairs are
 * partitioned they are those of {@code halter heads patch}, to the bit.
 */
public final class HalterPatching extends ModelJob<HalterPatching> {
  private static final List<String> KEYS =
      List.of(
          "reference",
          "reference_tokens",
          "counterfactual",
          "counterfactual_tokens",
          "answer",
          "answer_token",
          "foil",
          "foil_token",
          "label");

  /** Pairs that are swept together, so that weights are read once for all of them. */
  private static final int TOGETHER = 64;

  private static final StructType MEANS = RowJson.schema(EffectsTable.COLUMNS);

  private static final StructType EACH = each();

  private final Dataset<Row> pairs;
  private PathPatching.Variant variant = PathPatching.Variant.RECOMPUTE;
  private boolean probability;

  private HalterPatching(Dataset<Row> pairs) {
    this.pairs = pairs;
  }

  private static StructType each() {
    StructType schema = new StructType().add("id", DataTypes.StringType);
    for (var field : MEANS.fields()) {
      schema = schema.add(field);
    }
    return schema.add("error", DataTypes.StringType);
  }

  /** Measures these pairs. */
  public static HalterPatching on(Dataset<Row> pairs) {
    return new HalterPatching(pairs);
  }

  @Override
  HalterPatching self() {
    return this;
  }

  /** {@code "recompute"} (the default) or {@code "frozen"}. */
  public HalterPatching variant(String name) {
    variant = HalterMap.setting(PathPatching.Variant.class, name);
    return this;
  }

  /** Whether the answer's probability is measured too, which is about twice the work. */
  public HalterPatching probability(boolean measured) {
    probability = measured;
    return this;
  }

  /**
   * Measures all pairs and returns the means, which stand when this returns.
   *
   * <p>A row that is no pair fails the job, which names it: a mean over the rest would be of other
   * pairs than were asked for.
   *
   * @throws IllegalArgumentException if there is no pair
   */
  public Dataset<Row> run() {
    List<Effects> parts =
        RowJson.checked(pairs, KEYS, List.of())
            .mapPartitions(
                new Sums(new Sweep(settings(), variant, probability)),
                Encoders.javaSerialization(Effects.class))
            .collectAsList();
    if (parts.isEmpty()) {
      throw new IllegalArgumentException("there is no pair: the dataset is empty");
    }
    Effects all = parts.getFirst();
    parts.subList(1, parts.size()).forEach(all::add);
    List<Row> rows = new ArrayList<>();
    EffectsTable.rows(all).forEach(row -> rows.add(RowFactory.create(row.toArray())));
    return pairs.sparkSession().createDataFrame(rows, MEANS);
  }

  /**
   * The effects of each pair by itself: {@code id} and {@code error} beside the columns of the
   * means. A row that is no pair has its id and its error alone. Computed each time that it is
   * asked for.
   */
  public Dataset<Row> byPair() {
    return RowJson.checked(pairs, KEYS, List.of())
        .mapPartitions(new Each(new Sweep(settings(), variant, probability)), Encoders.row(EACH));
  }

  /** A row and its pair, or what is wrong with it. */
  private record Read(String id, Pair pair, String problem) {}

  /** How pairs are measured. */
  private record Sweep(ModelSettings settings, PathPatching.Variant variant, boolean probability)
      implements Serializable {

    Alone alone() {
      TaskContext task = TaskContext.get();
      Place place = Place.of(settings.device(), task);
      return ExecutorCache.take(
          place,
          Alone.class,
          settings,
          task,
          () -> new Alone(place, settings.opening(place).open()));
    }

    static List<Read> read(Iterator<Row> rows, LanguageModel model) {
      List<Read> read = new ArrayList<>();
      while (rows.hasNext() && read.size() < TOGETHER) {
        read.add(read(rows.next(), model));
      }
      return read;
    }

    private static Read read(Row row, LanguageModel model) {
      try {
        JsonObject json = RowJson.of(row, KEYS, Map.of());
        String id = RowJson.id(json);
        return new Read(id, Pair.of(json.without(RowJson.ID), model), null);
      } catch (IllegalArgumentException e) {
        return new Read(RowJson.id(row), null, RowJson.problem(e.getMessage()));
      }
    }
  }

  /** The sums over a partition. */
  private record Sums(Sweep sweep) implements MapPartitionsFunction<Row, Effects> {
    @Override
    public Iterator<Effects> call(Iterator<Row> rows) {
      if (!rows.hasNext()) {
        return Collections.emptyIterator();
      }
      Alone alone = sweep.alone();
      Effects sums = null;
      while (rows.hasNext()) {
        List<Read> read = Sweep.read(rows, alone.model);
        for (Read each : read) {
          if (each.problem != null) {
            throw new IllegalArgumentException("pair " + each.id + ": " + each.problem);
          }
        }
        Effects part =
            alone.sweep(
                model ->
                    PathPatching.of(
                        model.llama(),
                        read.stream().map(Read::pair).toList(),
                        sweep.variant,
                        sweep.probability,
                        done -> {}));
        if (sums == null) {
          sums = part;
        } else {
          sums.add(part);
        }
      }
      return List.of(sums).iterator();
    }
  }

  /** The effects of each pair of a partition. */
  private record Each(Sweep sweep) implements MapPartitionsFunction<Row, Row> {
    @Override
    public Iterator<Row> call(Iterator<Row> rows) {
      Alone alone = sweep.alone();
      return new ChunkedRows() {
        @Override
        Iterator<Row> more() {
          return rows.hasNext() ? effects(Sweep.read(rows, alone.model), alone).iterator() : null;
        }
      };
    }

    private List<Row> effects(List<Read> read, Alone alone) {
      List<Pair> pairs = read.stream().map(Read::pair).filter(pair -> pair != null).toList();
      Iterator<Effects> effects =
          alone
              .sweep(
                  model ->
                      PathPatching.ofEach(model.llama(), pairs, sweep.variant, sweep.probability))
              .iterator();
      List<Row> rows = new ArrayList<>();
      for (Read each : read) {
        if (each.pair == null) {
          Object[] cells = new Object[EACH.length()];
          cells[0] = each.id;
          cells[cells.length - 1] = each.problem;
          rows.add(RowFactory.create(cells));
          continue;
        }
        for (List<Object> measured : EffectsTable.rows(effects.next())) {
          List<Object> cells = new ArrayList<>();
          cells.add(each.id);
          cells.addAll(measured);
          cells.add(null);
          rows.add(RowFactory.create(cells.toArray()));
        }
      }
      return rows;
    }
  }

  /** A model that one task uses at a time. */
  private static final class Alone implements ExecutorCache.Kept {
    final LanguageModel model;
    private final Place place;

    Alone(Place place, LanguageModel model) {
      this.place = place;
      this.model = model;
    }

    synchronized <T> T sweep(Function<LanguageModel, T> work) {
      return ExecutorEnd.onFailure(place, () -> work.apply(model));
    }

    @Override
    public boolean isBroken() {
      return false;
    }

    @Override
    public void close() {
      model.close();
    }
  }
}
