package dev.halter.serving.dialects;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * RhizoNymph's vLLM (6448e3c): vectors and clamps in three tiers at the residual stream, packed or
 * as lists; named modules of them; and gates, of which those that always add.
 */
public final class RhizoNymph implements Dialect {
  private static final String VECTORS = "steering_vectors";
  private static final String CLAMPS = "steering_clamps";
  private static final String NAME = "steering_name";
  private static final String GATES = "steering";

  private final ModelConfig config;
  private final Map<String, SteeringTiers> modules = new ConcurrentSkipListMap<>();
  private final Map<String, SteeringTiers> vectors = new ConcurrentSkipListMap<>();

  /** Without names yet. */
  public RhizoNymph(ModelConfig config) {
    this.config = config;
  }

  @Override
  public List<String> in(JsonObject body) {
    List<String> fields = new ArrayList<>(SteeringTiers.fields(VECTORS, CLAMPS));
    fields.add(NAME);
    fields.removeIf(field -> !body.has(field));
    if (body.value(GATES) instanceof List<?> gates && !gates.isEmpty()) {
      fields.add(GATES); // an object is EasySteer's
    }
    return fields;
  }

  @Override
  public SteeringPlan plan(JsonObject body, Before before) {
    SteeringTiers tiers = SteeringTiers.NONE;
    String name = in(body).getFirst();
    if (body.has(NAME)) {
      name = body.text(NAME);
      tiers = modules.get(name);
      if (tiers == null) {
        throw body.wrong(NAME, "the name of a module: there are " + modules.keySet());
      }
    }
    tiers = tiers.and(SteeringTiers.read(body, VECTORS, CLAMPS, config));
    if (body.value(GATES) instanceof List<?>) {
      for (JsonObject gate : body.objects(GATES)) {
        tiers = tiers.and(gate(gate));
      }
    }
    if (tiers.isEmpty()) {
      throw body.wrong(name, "an object of at least one vector or clamp");
    }
    return before.then(tiers, name);
  }

  /** One that acts at every generated token: there are no probes here. */
  private SteeringTiers gate(JsonObject gate) {
    gate.only("when", "scope", "apply");
    if (!gate.object("when").text("kind").equals("always")) {
      throw gate.object("when").wrong("kind", "\"always\": no probe decides here");
    }
    gate.object("when").only("kind");
    if (!gate.text("scope").equals("rest_of_request")) {
      throw gate.wrong("scope", "\"rest_of_request\"");
    }
    JsonObject apply = gate.object("apply");
    if (!apply.text("kind").equals("add")) {
      throw apply.wrong("kind", "\"add\"");
    }
    apply.only("kind", "steer", "strength");
    float strength = Numbers.number(apply, "strength", 1);
    JsonObject steer = apply.object("steer");
    SteeringTiers added =
        switch (steer.text("kind")) {
          case "name" -> named(steer);
          case "inline" -> inline(steer);
          default -> throw steer.wrong("kind", "\"name\" or \"inline\"");
        };
    return added.onlyGenerated(strength);
  }

  private SteeringTiers named(JsonObject steer) {
    steer.only("kind", "name");
    SteeringTiers named = vectors.get(steer.text("name"));
    if (named == null) {
      throw steer.wrong("name", "the name of a vector: there are " + vectors.keySet());
    }
    return named;
  }

  private SteeringTiers inline(JsonObject steer) {
    steer.only("kind", "packed");
    return packed(steer);
  }

  private SteeringTiers packed(JsonObject json) {
    SteeringTiers read = SteeringTiers.ofVectors(json.object("packed"), config);
    if (read.isEmpty()) {
      throw json.wrong("packed", "an object of at least one hook with its vectors");
    }
    return read;
  }

  /** The tiers of a body that sets them for all requests, or for those that name a module. */
  public SteeringTiers tiers(JsonObject body) {
    SteeringTiers tiers = SteeringTiers.read(body, "vectors", "clamps", config);
    if (tiers.isEmpty()) {
      throw new BadFileException(
          body.file(),
          "holds no vector and no clamp: give one of "
              + String.join(", ", SteeringTiers.fields("vectors", "clamps")));
    }
    return tiers;
  }

  /** The fields of such a body. */
  public static List<String> tierFields() {
    return SteeringTiers.fields("vectors", "clamps");
  }

  /**
   * Gives a module a name, which another may have had.
   *
   * @return the name
   */
  public String registerModule(JsonObject body) {
    List<String> known = new ArrayList<>(tierFields());
    known.add("name");
    body.only(known.toArray(String[]::new));
    String name = name(body);
    modules.put(name, tiers(body));
    return name;
  }

  /** Whether there was one of this name; there is none now. */
  public boolean unregisterModule(JsonObject body) {
    body.only("name");
    return modules.remove(body.text("name")) != null;
  }

  /** The names of modules. */
  public Set<String> modules() {
    return modules.keySet();
  }

  /**
   * Gives vectors a name, for gates, which others may have had.
   *
   * @return the name
   */
  public String registerVector(JsonObject body) {
    body.only("name", "kind", "packed");
    requireSteer(body);
    String name = name(body);
    vectors.put(name, packed(body));
    return name;
  }

  /** Whether there was one of this name; there is none now. */
  public boolean unregisterVector(JsonObject body) {
    body.only("name", "kind");
    requireSteer(body);
    return vectors.remove(body.text("name")) != null;
  }

  /** The names of vectors. */
  public Set<String> vectors() {
    return vectors.keySet();
  }

  private static void requireSteer(JsonObject body) {
    if (!body.text("kind").equals("steer")) {
      throw body.wrong("kind", "\"steer\": probes decide nothing here");
    }
  }

  private static String name(JsonObject body) {
    String name = body.text("name");
    if (name.isEmpty() || name.length() > 256) {
      throw body.wrong("name", "a name of up to 256 characters");
    }
    return name;
  }
}
