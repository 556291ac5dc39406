package dev.halter.serving.dialects;

import static dev.halter.files.Json.object;

import dev.halter.files.JsonObject;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * RhizoNymph's three tiers of vectors and of clamps: for all tokens, for those of the prompt
 * (prefill), for generated ones (decode). Vectors add up; clamps act after all vectors, in their
 * order.
 */
public record SteeringTiers(List<Part> vectors, List<Part> clamps) {
  /** No steering. */
  public static final SteeringTiers NONE = new SteeringTiers(List.of(), List.of());

  /** The sites by what they call them. */
  public static final SortedMap<String, Site.Kind> HOOKS =
      Collections.unmodifiableSortedMap(
          new TreeMap<>(
              Map.of(
                  "pre_attn", Site.Kind.RESID_PRE,
                  "post_attn", Site.Kind.RESID_MID,
                  "post_block", Site.Kind.RESID_POST,
                  "mlp_out", Site.Kind.MLP_OUT)));

  /** Which tokens. */
  public enum Tier {
    BASE("", Trigger.ALWAYS),
    PREFILL("prefill_", Trigger.PROMPT),
    DECODE("decode_", Trigger.GENERATION);

    private final String prefix; // of fields
    private final Trigger trigger;

    Tier(String prefix, Trigger trigger) {
      this.prefix = prefix;
      this.trigger = trigger;
    }
  }

  /** One edit of a tier. */
  public record Part(Tier tier, Edit edit) {
    private boolean isWhere(Part other) {
      return tier == other.tier && edit.site().equals(other.edit.site());
    }
  }

  public SteeringTiers {
    vectors = List.copyOf(vectors);
    clamps = List.copyOf(clamps);
  }

  /** The names of the six fields, of which the first three are vectors'. */
  static List<String> fields(String vectors, String clamps) {
    List<String> fields = new ArrayList<>();
    for (String kind : List.of(vectors, clamps)) {
      for (Tier tier : Tier.values()) {
        fields.add(tier.prefix + kind);
      }
    }
    return fields;
  }

  /**
   * Reads the tiers that JSON has.
   *
   * @param vectors name of the field of vectors for all tokens; those of the other tiers begin with
   *     {@code prefill_} and {@code decode_}
   * @param clamps likewise
   */
  static SteeringTiers read(JsonObject json, String vectors, String clamps, ModelConfig config) {
    TierReader reader = new TierReader(config);
    List<Part> ofVectors = new ArrayList<>();
    List<Part> ofClamps = new ArrayList<>();
    for (Tier tier : Tier.values()) {
      if (json.has(tier.prefix + vectors)) {
        reader
            .vectors(json.object(tier.prefix + vectors))
            .forEach(edit -> ofVectors.add(new Part(tier, edit)));
      }
      if (json.has(tier.prefix + clamps)) {
        reader
            .clamps(json.object(tier.prefix + clamps))
            .forEach(edit -> ofClamps.add(new Part(tier, edit)));
      }
    }
    return new SteeringTiers(ofVectors, ofClamps);
  }

  /** Vectors for all tokens, by hook. */
  static SteeringTiers ofVectors(JsonObject hooks, ModelConfig config) {
    return new SteeringTiers(
        new TierReader(config)
            .vectors(hooks).stream().map(edit -> new Part(Tier.BASE, edit)).toList(),
        List.of());
  }

  /** Whether nothing steers. */
  boolean isEmpty() {
    return vectors.isEmpty() && clamps.isEmpty();
  }

  /** These, and others after them. */
  SteeringTiers and(SteeringTiers others) {
    return new SteeringTiers(joined(vectors, others.vectors), joined(clamps, others.clamps));
  }

  /** These, and others in the place of what is of the same tier, site and kind. */
  public SteeringTiers replacedBy(SteeringTiers others) {
    return new SteeringTiers(replaced(vectors, others.vectors), replaced(clamps, others.clamps));
  }

  private static List<Part> joined(List<Part> first, List<Part> then) {
    List<Part> all = new ArrayList<>(first);
    all.addAll(then);
    return all;
  }

  private static List<Part> replaced(List<Part> old, List<Part> fresh) {
    return joined(
        old.stream().filter(part -> fresh.stream().noneMatch(part::isWhere)).toList(), fresh);
  }

  /** The vectors at generated tokens alone, {@code strength} times as long. */
  SteeringTiers onlyGenerated(double strength) {
    return new SteeringTiers(
        vectors.stream().map(each -> new Part(Tier.DECODE, each.edit.scaled(strength))).toList(),
        List.of());
  }

  /** What they do. */
  SteeringPlan plan(String name) {
    return new SteeringPlan(
        name,
        joined(vectors, clamps).stream()
            .map(part -> new Intervention(part.edit, part.tier.trigger))
            .toList());
  }

  /**
   * Layers that anything is done at, by their keys as text; of each hook the norms and the clamps.
   */
  public Map<String, Object> activeLayers() {
    Map<Integer, Map<String, Object>> layers = new TreeMap<>();
    for (Part part : vectors) {
      Edit.Add add = (Edit.Add) part.edit;
      double squares = 0;
      for (float value : add.vector()) {
        squares += (double) value * value;
      }
      at(layers, part).put(part.tier.prefix + "norm", Math.abs(add.scale()) * Math.sqrt(squares));
    }
    for (Part part : clamps) {
      at(layers, part).merge(part.tier.prefix + "clamps", 1, (a, b) -> (int) a + (int) b);
    }
    Map<String, Object> named = object();
    layers.forEach((layer, hooks) -> named.put(layer.toString(), hooks));
    return named;
  }

  @SuppressWarnings("unchecked") // this makes them
  private static Map<String, Object> at(Map<Integer, Map<String, Object>> layers, Part part) {
    return (Map<String, Object>)
        layers
            .computeIfAbsent(part.edit.site().layer(), layer -> object())
            .computeIfAbsent(hook(part.edit.site().kind()), hook -> object());
  }

  /** The hooks at which there is anything, in the order of their names. */
  public List<String> hooks() {
    return joined(vectors, clamps).stream()
        .map(part -> hook(part.edit.site().kind()))
        .distinct()
        .sorted()
        .toList();
  }

  /** The layers at which there is anything. */
  public List<Integer> layers() {
    return joined(vectors, clamps).stream()
        .map(part -> part.edit.site().layer())
        .distinct()
        .sorted()
        .toList();
  }

  private static String hook(Site.Kind kind) {
    return HOOKS.keySet().stream()
        .filter(hook -> HOOKS.get(hook) == kind)
        .findFirst()
        .orElseThrow();
  }
}
