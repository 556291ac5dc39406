package dev.halter.serving.dialects;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.NamedFiles;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ControlVector;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SteeringVectors;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * EasySteer (ZJU-REAL/EasySteer, its API 2): {@code steering}, a specification of vectors at the
 * outputs of blocks, {@code blocks.L.hook_resid_post}. {@code false} is none at all.
 *
 * @param files that a {@code source} may name
 */
public record EasySteer(NamedFiles files, ModelConfig config) implements Dialect {
  private static final String FIELD = "steering";

  @Override
  public List<String> in(JsonObject body) {
    // A list is RhizoNymph's.
    return body.has(FIELD) && !(body.value(FIELD) instanceof List<?>) ? List.of(FIELD) : List.of();
  }

  @Override
  public SteeringPlan plan(JsonObject body, Before before) {
    return Boolean.FALSE.equals(body.value(FIELD))
        ? before.plan()
        : before.plan().then(plan(body.object(FIELD)));
  }

  /** The plan that a specification means. */
  public SteeringPlan plan(JsonObject specification) {
    specification.only("vectors", "conflict", "debug");
    specification.flag("debug", false); // says what is logged there
    List<JsonObject> vectors = specification.objects("vectors");
    if (vectors.isEmpty()) {
      throw specification.wrong("vectors", "a list of at least one vector");
    }
    Conflict conflict =
        switch (specification.text("conflict", "priority")) {
          case "priority" -> Conflict.PRIORITY;
          case "sequential" -> Conflict.SEQUENTIAL;
          case "error" -> Conflict.ERROR;
          default -> throw specification.wrong("conflict", "priority, sequential or error");
        };
    List<Intervention> interventions = new ArrayList<>();
    for (JsonObject vector : vectors) {
      interventions.addAll(settle(conflict, vector, interventions(vector), interventions));
    }
    return new SteeringPlan(FIELD, interventions);
  }

  /**
   * Looks at the files of {@code {"paths": […]}}, so that one that cannot be used is told before a
   * request needs it.
   *
   * @return their names
   */
  public List<String> preload(JsonObject body) {
    body.only("paths", "algorithm", "params");
    algorithm(body);
    List<String> names = body.texts("paths");
    if (names.isEmpty()) {
      throw body.wrong("paths", "a list of at least one name of a file");
    }
    for (String name : names) {
      JsonObject one = body.as(Map.of("paths", name));
      directions(one, one.path("paths", files));
    }
    return names;
  }

  /** What happens where several vectors are for one token of one layer. */
  private enum Conflict {
    PRIORITY,
    SEQUENTIAL,
    ERROR
  }

  /** What a vector does where others come before it. */
  private static List<Intervention> settle(
      Conflict conflict, JsonObject vector, List<Intervention> its, List<Intervention> earlier) {
    if (conflict == Conflict.SEQUENTIAL) {
      return its;
    }
    List<Intervention> settled = new ArrayList<>();
    for (Intervention each : its) {
      Trigger left = each.trigger();
      for (Intervention first : earlier) {
        if (first.edit().site().equals(each.edit().site()) && left.mayMeet(first.trigger())) {
          left = conflict == Conflict.ERROR ? meets(vector) : left(vector, left, first.trigger());
        }
      }
      if (!left.isNothing()) {
        settled.add(new Intervention(each.edit(), left));
      }
    }
    if (settled.isEmpty()) {
      throw new BadFileException(
          vector.file(),
          "\"%s\" never acts: earlier vectors have all its tokens by \"conflict\": \"priority\"; say"
                  .formatted(place(vector))
              + " \"sequential\" to add them up");
    }
    return settled;
  }

  private static Trigger meets(JsonObject vector) {
    throw new BadFileException(
        vector.file(),
        "\"%s\" may meet an earlier vector at a token of its layers, which is an error by"
                .formatted(place(vector))
            + " \"conflict\": \"error\"");
  }

  private static Trigger left(JsonObject vector, Trigger trigger, Trigger first) {
    try {
      return trigger.yieldingTo(first);
    } catch (IllegalArgumentException e) {
      throw new BadFileException(
          vector.file(),
          "\"%s\" may meet an earlier vector, and what \"conflict\": \"priority\" leaves to it cannot"
                  .formatted(place(vector))
              + " be said ("
              + e.getMessage()
              + "): say \"sequential\", or let it select others",
          e);
    }
  }

  private static String place(JsonObject json) {
    String path = json.path("");
    return path.substring(0, path.length() - 1); // its dot
  }

  private List<Intervention> interventions(JsonObject vector) {
    vector.only(
        "source", "data", "algorithm", "scale", "layers", "normalize", "apply", "params", "name");
    if (vector.flag("normalize", false)) {
      throw vector.wrong(
          "normalize", "false: no plan keeps the length of what it changes; scale the vector");
    }
    vector.text("name", ""); // for its logs alone
    String algorithm = algorithm(vector);
    float scale = Numbers.number(vector, "scale", 1);
    if (scale == 0 && algorithm.equals("erase")) {
      throw vector.wrong("scale", "other than 0 where something is to be erased");
    }
    Trigger trigger = apply(vector.object("apply"));
    String field = vector.has("data") ? "data" : "source";
    List<Intervention> interventions = new ArrayList<>();
    directions(vector)
        .forEach(
            (layer, direction) -> {
              Site site = new Site(Site.Kind.RESID_POST, layer);
              Edit edit =
                  algorithm.equals("direct")
                      ? new Edit.Add(site, direction, scale)
                      : new Edit.Ablate(site, Numbers.unit(vector, field, direction));
              interventions.add(new Intervention(edit, trigger));
            });
    return interventions;
  }

  private static String algorithm(JsonObject json) {
    if (json.has("params")) {
      json.object("params").only();
    }
    String algorithm = json.text("algorithm", "direct");
    if (!algorithm.equals("direct") && !algorithm.equals("erase")) {
      throw json.wrong("algorithm", "direct or erase: no plan does what the others do");
    }
    return algorithm;
  }

  /** The vectors by their layers. */
  private SortedMap<Integer, float[]> directions(JsonObject vector) {
    if (vector.has("source") == vector.has("data")) {
      throw vector.wrong("source", "there, or \"data\" must be, and not both");
    }
    List<Integer> layers =
        vector.has("layers") ? Numbers.indices(vector, "layers", config.nLayers()) : null;
    if (vector.has("data")) {
      return restrict(vector, data(vector.object("data")), layers);
    }
    String source = vector.text("source");
    if (layers != null) {
      SortedMap<Integer, float[]> directions = new TreeMap<>();
      for (int layer : layers) {
        directions.put(layer, read(vector, source, layer));
      }
      return directions;
    }
    return directions(vector, vector.path("source", files));
  }

  /** All directions of a control vector, each of a layer that the model has. */
  private SortedMap<Integer, float[]> directions(JsonObject asked, Path file) {
    if (!file.toString().endsWith(".gguf")) {
      throw new BadFileException(
          asked.file(), "\"" + file.getFileName() + "\" names no layers: only a .gguf does");
    }
    SortedMap<Integer, float[]> directions = ControlVector.read(file).directions();
    for (float[] direction : directions.values()) {
      if (direction.length != config.dModel() || directions.lastKey() >= config.nLayers()) {
        throw new BadFileException(
            file,
            "has directions of %d values up to layer %d, but the model has %d layers of %d"
                .formatted(
                    direction.length, directions.lastKey(), config.nLayers(), config.dModel()));
      }
    }
    return directions;
  }

  private float[] read(JsonObject vector, String source, int layer) {
    try {
      return SteeringVectors.read(files, source, layer, 0, config.dModel());
    } catch (BadFileException e) {
      throw e;
    } catch (IllegalArgumentException e) {
      throw new BadFileException(
          vector.file(), "\"" + vector.path("source") + "\": " + e.getMessage(), e);
    }
  }

  /** Directions as they are: EasySteer's {@code DirectionVector}, its bytes in base64. */
  private SortedMap<Integer, float[]> data(JsonObject data) {
    data.only("version", "kind", "tensors", "extra", "sha256");
    data.integer("version", 1, 1);
    if (!data.text("kind").equals("direction")) {
      throw data.wrong("kind", "\"direction\"");
    }
    JsonObject tensors = data.object("tensors");
    SortedMap<Integer, float[]> directions = new TreeMap<>();
    for (String name : tensors.keys()) {
      JsonObject tensor = tensors.object(name);
      tensor.only("shape", "data");
      int layer = Layers.of(tensors, name, "layer.", config.nLayers());
      if (!Numbers.shape(tensor).equals(List.of(config.dModel()))) {
        throw tensor.wrong("shape", "[" + config.dModel() + "], d_model of this model");
      }
      float[][] rows = Numbers.rows(tensor, Numbers.bytes(tensor), "float32", 1, config.dModel());
      directions.put(layer, rows[0]);
    }
    if (directions.isEmpty()) {
      throw data.wrong("tensors", "an object of at least one vector");
    }
    return directions;
  }

  private static SortedMap<Integer, float[]> restrict(
      JsonObject vector, SortedMap<Integer, float[]> directions, List<Integer> layers) {
    if (layers == null) {
      return directions;
    }
    if (!directions.keySet().containsAll(layers)) {
      throw vector.wrong("layers", "some of those that \"data\" has, " + directions.keySet());
    }
    SortedMap<Integer, float[]> chosen = new TreeMap<>(directions);
    chosen.keySet().retainAll(layers);
    return chosen;
  }

  /**
   * The tokens that {@code apply} selects, in either spelling: {@code "prompt": "all"} and so on is
   * what {@code when} of a plan is; {@code "phases": ["prompt", …]} selects all tokens of these
   * phases where no selector includes any.
   */
  private Trigger apply(JsonObject apply) {
    if (!apply.has("phases")) {
      return Trigger.read(apply, config.vocabularySize());
    }
    List<String> phases = apply.texts("phases");
    if (phases.isEmpty()
        || !List.of("prompt", "generation").containsAll(phases)
        || phases.stream().distinct().count() != phases.size()
        || apply.has("prompt")
        || apply.has("generation")) {
      throw apply.wrong(
          "phases", "a list of \"prompt\" and \"generation\", without fields of these names");
    }
    Map<String, Object> selectors = new LinkedHashMap<>(apply.values());
    selectors.remove("phases");
    for (String key : apply.keys()) {
      String phase = key.startsWith("exclude_") ? key.substring("exclude_".length()) : key;
      if (apply.has(key) && !key.equals("phases") && phases.stream().noneMatch(phase::startsWith)) {
        throw apply.wrong(key, "left out, or its phase one of \"phases\"");
      }
    }
    boolean includes =
        selectors.keySet().stream().anyMatch(key -> apply.has(key) && !key.startsWith("exclude_"));
    if (!includes) {
      phases.forEach(phase -> selectors.put(phase, "all"));
    }
    return Trigger.read(apply.as(selectors), config.vocabularySize());
  }
}
