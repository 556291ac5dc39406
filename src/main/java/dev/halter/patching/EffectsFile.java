package dev.halter.patching;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.Shard;
import dev.halter.files.ShardFile;
import dev.halter.model.Head;
import dev.halter.patching.Effects.Effect;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/**
 * Effects of a sweep over every head and MLP, as {@code halter heads patch} writes them. Entries
 * that were not measured are NaN.
 *
 * @param variant of path patching
 * @param pairs that the means are over
 * @param heads mean over pairs of Δ / reference, by layer and head
 * @param deltaLogit mean over pairs of patched − reference logit of the answer, by layer and head
 * @param mlps as {@code heads}, by layer
 * @param mlpDeltaLogit as {@code deltaLogit}, by layer
 * @param referenceLogit mean logit of the answer without a patch
 */
public record EffectsFile(
    Path file,
    String variant,
    int pairs,
    double[][] heads,
    double[][] deltaLogit,
    double[] mlps,
    double[] mlpDeltaLogit,
    double referenceLogit) {

  private static final String RECEIVERS = "receivers";
  private static final String SUMS = "sums";

  /**
   * Reads a file of effects; keys that are not used here are left alone.
   *
   * @throws BadFileException naming the key that is missing or has another shape
   */
  public static EffectsFile read(Path file) {
    return of(JsonObject.read(file));
  }

  /** What a file that is read already holds; errors as above. */
  public static EffectsFile of(JsonObject json) {
    double[][] heads = matrix(json, "heads", json.value("heads"), -1, -1);
    int layers = heads.length;
    return new EffectsFile(
        json.file(),
        json.text("variant"),
        json.integer("pairs", 1, Integer.MAX_VALUE),
        heads,
        matrix(json, "delta_logit", json.value("delta_logit"), layers, heads[0].length),
        numbers(json, "mlps", json.value("mlps"), layers),
        numbers(json, "mlp_delta_logit", json.value("mlp_delta_logit"), layers),
        json.number("reference_logit", -Double.MAX_VALUE, Double.MAX_VALUE));
  }

  /**
   * The effects of a sweep as a JSON document; what was not measured is left out.
   *
   * @param receivers that the paths lead through, as they are to be described; none for the logits
   */
  public static Map<String, Object> document(String variant, Effects effects, List<?> receivers) {
    Effect reference = effects.reference();
    Map<String, Object> document =
        Json.object(
            "variant", variant,
            "pairs", reference.pairs(),
            "heads", heads(effects, Effect::relative),
            "delta_logit", heads(effects, Effect::delta),
            "mlps", mlps(effects, Effect::relative),
            "mlp_delta_logit", mlps(effects, Effect::delta),
            "reference_logit", effects.referenceLogit());
    if (!receivers.isEmpty()) {
      document.put(RECEIVERS, receivers);
    }
    put(document, "relative_of_means", effects, Effect::relativeOfMeans);
    put(document, "standard_error", effects, Effect::standardError);
    if (!Double.isNaN(reference.probability())) {
      document.put("reference_probability", reference.probability());
      put(document, "probability", effects, Effect::probability);
    }
    if (!Double.isNaN(reference.logitDifference())) {
      document.put("reference_logit_difference", reference.logitDifference());
      put(document, "logit_difference", effects, Effect::logitDifference);
    }
    return document;
  }

  private static void put(
      Map<String, Object> document, String key, Effects effects, ToDoubleFunction<Effect> number) {
    document.put(key, heads(effects, number));
    document.put("mlp_" + key, mlps(effects, number));
  }

  private static List<List<Double>> heads(Effects effects, ToDoubleFunction<Effect> number) {
    return layers(
        effects,
        layer ->
            IntStream.range(0, effects.heads())
                .mapToObj(head -> effects.of(new Head(layer, head)))
                .map(number::applyAsDouble)
                .toList());
  }

  private static List<Double> mlps(Effects effects, ToDoubleFunction<Effect> number) {
    return layers(effects, layer -> number.applyAsDouble(effects.ofMlp(layer)));
  }

  private static <T> List<T> layers(Effects effects, IntFunction<T> of) {
    return IntStream.range(0, effects.layers()).mapToObj(of).toList();
  }

  /** Makes a document that of a shard of the pairs, which can be joined with the others. */
  public static void putShard(
      Map<String, Object> document, Shard shard, String job, Effects effects) {
    document.put(Shard.KEY, shard.toString());
    document.put(ShardFile.JOB, job);
    document.put(SUMS, effects.sums().document());
  }

  /**
   * The document of all pairs from those of their shards, in any order: what one run over all
   * writes, to the byte.
   *
   * @throws BadFileException if a file is no shard, a shard of something else, or there twice
   * @throws IllegalArgumentException if one is missing
   */
  public static Map<String, Object> join(List<Path> files) {
    List<ShardFile> shards = new ArrayList<>();
    List<JsonObject> documents = new ArrayList<>();
    for (Path file : files) {
      JsonObject json = JsonObject.read(file);
      documents.add(json);
      shards.add(ShardFile.of(file, json.value(Shard.KEY), json.value(ShardFile.JOB)));
    }
    ShardFile.inOrder(shards);
    EffectsFile first = of(documents.getFirst());
    int heads = first.heads[0].length;
    EffectSums sums = new EffectSums(first.heads.length * (heads + 1));
    for (JsonObject json : documents) {
      EffectSums part = EffectSums.of(json, SUMS);
      if (part.size() != sums.size()) {
        throw json.wrong(SUMS, "of %d heads and MLPs".formatted(sums.size()));
      }
      sums.add(part);
    }
    Object receivers = documents.getFirst().value(RECEIVERS);
    return document(
        first.variant,
        new Effects(first.heads.length, heads, sums),
        receivers instanceof List<?> list ? list : List.of());
  }

  /** A value as rows of numbers, null as NaN; −1 stands for any count above 0. */
  static double[][] matrix(JsonObject json, String key, Object value, int rows, int columns) {
    if (!(value instanceof List<?> list) || list.isEmpty() || rows >= 0 && list.size() != rows) {
      throw json.wrong(key, "a list of " + (rows < 0 ? "rows" : rows + " rows"));
    }
    double[][] matrix = new double[list.size()][];
    for (int row = 0; row < matrix.length; row++) {
      int width = row == 0 ? columns : matrix[0].length;
      matrix[row] = numbers(json, key, list.get(row), width);
    }
    return matrix;
  }

  /** A value as numbers, null as NaN; −1 stands for any count above 0. */
  static double[] numbers(JsonObject json, String key, Object value, int count) {
    if (!(value instanceof List<?> list) || list.isEmpty() || count >= 0 && list.size() != count) {
      throw json.wrong(key, "lists of " + (count < 0 ? "numbers" : count + " numbers"));
    }
    double[] numbers = new double[list.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] =
          switch (list.get(i)) {
            case Number number -> number.doubleValue();
            case null -> Double.NaN;
            default -> throw json.wrong(key, "lists of numbers");
          };
    }
    return numbers;
  }

  /**
   * Refuses effects of a model with other layers or heads.
   *
   * @throws BadFileException saying which
   */
  public EffectsFile requireOf(ModelConfig config) {
    if (heads.length != config.nLayers() || heads[0].length != config.nHeads()) {
      throw new BadFileException(
          file,
          "has effects of %d layers of %d heads, but the model has %d of %d: name its own effects"
              .formatted(heads.length, heads[0].length, config.nLayers(), config.nHeads()));
    }
    return this;
  }

  /**
   * The heads that the answer needs most: those whose patch lowers its logit most, in that order.
   *
   * @throws IllegalArgumentException if there are not so many heads
   */
  public List<Head> top(int count) {
    List<Head> order = new ArrayList<>();
    for (int layer = 0; layer < heads.length; layer++) {
      for (int head = 0; head < heads[layer].length; head++) {
        if (!Double.isNaN(deltaLogit[layer][head])) {
          order.add(new Head(layer, head));
        }
      }
    }
    if (count < 1 || count > order.size()) {
      throw new IllegalArgumentException(
          "%d heads were asked for, must be 1 to %d".formatted(count, order.size()));
    }
    order.sort(Comparator.comparingDouble(head -> deltaLogit[head.layer()][head.head()]));
    return List.copyOf(order.subList(0, count));
  }
}
