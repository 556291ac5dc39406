package dev.halter.serving.dialects;

import dev.halter.files.JsonObject;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiFunction;

/**
 * Reads what a tier's field holds: by hook, an object of entries by layer, or the rows of an array
 * with their layers.
 */
record TierReader(ModelConfig config) {
  private static boolean isPacked(JsonObject hook) {
    return hook.has("data") || hook.has("dtype");
  }

  /** What an entry of a hook that is not packed says of its layer. */
  @FunctionalInterface
  private interface OfLayer {
    List<Edit> edits(Site site, JsonObject hook, String layer);
  }

  private List<Edit> edits(
      JsonObject hooks, BiFunction<Site.Kind, JsonObject, List<Edit>> packed, OfLayer listed) {
    List<Edit> edits = new ArrayList<>();
    hooks.only(SteeringTiers.HOOKS.keySet().toArray(String[]::new));
    for (String name : hooks.keys()) {
      Site.Kind kind = SteeringTiers.HOOKS.get(name);
      JsonObject hook = hooks.object(name);
      if (isPacked(hook)) {
        edits.addAll(packed.apply(kind, hook));
        continue;
      }
      for (String layer : hook.keys()) {
        Site site = new Site(kind, Layers.of(hook, layer, "", config.nLayers()));
        edits.addAll(listed.edits(site, hook, layer));
      }
    }
    return edits;
  }

  List<Edit> vectors(JsonObject hooks) {
    return edits(hooks, this::packedVectors, this::vector);
  }

  private List<Edit> vector(Site site, JsonObject hook, String layer) {
    if (!(hook.value(layer) instanceof Map<?, ?>)) {
      return List.of(new Edit.Add(site, Numbers.vector(hook, layer, config.dModel()), 1));
    }
    JsonObject entry = hook.object(layer);
    entry.only("vector", "scale");
    float scale = Numbers.number(entry, "scale", 1);
    return List.of(new Edit.Add(site, Numbers.vector(entry, "vector", config.dModel()), scale));
  }

  private List<Edit> packedVectors(Site.Kind kind, JsonObject hook) {
    hook.only("dtype", "shape", "layer_indices", "data", "scales");
    float[][] rows = Numbers.rows(hook, config.dModel());
    List<Integer> layers = layers(hook, rows.length);
    if (Set.copyOf(layers).size() != layers.size()) {
      throw hook.wrong("layer_indices", "distinct: a layer has one vector");
    }
    float[] scales = Numbers.numbers(hook, "scales", rows.length, 1);
    List<Edit> edits = new ArrayList<>();
    for (int i = 0; i < rows.length; i++) {
      edits.add(new Edit.Add(new Site(kind, layers.get(i)), rows[i], scales[i]));
    }
    return edits;
  }

  private List<Integer> layers(JsonObject hook, int count) {
    List<Integer> layers =
        hook.value("layer_indices") instanceof List<?> ? hook.integers("layer_indices") : List.of();
    if (layers.size() != count || layers.stream().anyMatch(each -> each >= config.nLayers())) {
      throw hook.wrong(
          "layer_indices",
          "a list of %d layers from 0 to %d, one for each row"
              .formatted(count, config.nLayers() - 1));
    }
    return layers;
  }

  List<Edit> clamps(JsonObject hooks) {
    return edits(
        hooks,
        this::packedClamps,
        (site, hook, layer) ->
            hook.objects(layer).stream().map(entry -> clamp(site, entry)).toList());
  }

  private Edit clamp(Site site, JsonObject entry) {
    entry.only("vector", "value", "min", "max", "strength");
    boolean hasBounds = entry.has("min") || entry.has("max");
    if (entry.has("value") == hasBounds) {
      throw entry.wrong("value", "there, or \"min\" or \"max\" must be, and not both");
    }
    float low = Numbers.number(entry, "min", Float.NEGATIVE_INFINITY);
    float high = Numbers.number(entry, "max", Float.POSITIVE_INFINITY);
    if (entry.has("value")) {
      low = Numbers.number(entry, "value", 0);
      high = low;
    }
    if (low > high) {
      throw entry.wrong("min", "at most \"max\"");
    }
    float strength = (float) entry.number("strength", 0, 1, 1);
    float[] direction = Numbers.vector(entry, "vector", config.dModel());
    return new Edit.Project(site, Numbers.unit(entry, "vector", direction), low, high, strength);
  }

  private List<Edit> packedClamps(Site.Kind kind, JsonObject hook) {
    hook.only("dtype", "shape", "layer_indices", "data", "bounds", "strengths");
    float[][] rows = Numbers.rows(hook, config.dModel());
    List<Integer> layers = layers(hook, rows.length);
    float[] strengths = Numbers.numbers(hook, "strengths", rows.length, 1);
    if (!(hook.value("bounds") instanceof List<?> bounds) || bounds.size() != rows.length) {
      throw wrongBounds(hook, rows.length);
    }
    List<Edit> edits = new ArrayList<>();
    for (int i = 0; i < rows.length; i++) {
      if (!(bounds.get(i) instanceof List<?> pair) || pair.size() != 2) {
        throw wrongBounds(hook, rows.length);
      }
      float low = bound(hook, pair.get(0), Float.NEGATIVE_INFINITY, rows.length);
      float high = bound(hook, pair.get(1), Float.POSITIVE_INFINITY, rows.length);
      if (low > high) {
        throw wrongBounds(hook, rows.length);
      }
      if (!(strengths[i] >= 0 && strengths[i] <= 1)) {
        throw hook.wrong("strengths", "a list of numbers from 0 to 1");
      }
      float[] unit = Numbers.unit(hook, "data", rows[i]);
      edits.add(new Edit.Project(new Site(kind, layers.get(i)), unit, low, high, strengths[i]));
    }
    return edits;
  }

  private static float bound(JsonObject hook, Object given, float open, int count) {
    if (given == null) {
      return open;
    }
    if (given instanceof Number number && Math.abs(number.floatValue()) <= Numbers.MOST) {
      return number.floatValue();
    }
    throw wrongBounds(hook, count);
  }

  private static RuntimeException wrongBounds(JsonObject hook, int count) {
    return hook.wrong(
        "bounds", "a list of %d pairs [low, high], null for an open end".formatted(count));
  }
}
