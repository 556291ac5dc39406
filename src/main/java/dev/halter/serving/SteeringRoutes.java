package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.files.JsonObject;
import dev.halter.serving.dialects.RhizoNymph;
import dev.halter.serving.dialects.SteeringTiers;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListSet;

/**
 * What EasySteer and RhizoNymph have at {@code /v1/steering}. Where both have something at one path
 * the answer holds the keys of both. What acts on requests of others needs an admin's key.
 */
final class SteeringRoutes {
  private static final String STEERING = "/v1/steering";
  private static final String VECTORS = STEERING + "/vectors";
  private static final String MODULES = STEERING + "/modules";

  private final Backend backend;
  private final PlanRegistry plans;
  private final RhizoNymph rhizoNymph;
  private final Set<String> preloaded = new ConcurrentSkipListSet<>();

  SteeringRoutes(Backend backend) {
    this.backend = backend;
    this.plans = backend.plans();
    this.rhizoNymph = plans.rhizoNymph();
  }

  List<Route> routes() {
    return List.of(
            Route.user("GET", STEERING, this::status),
            Route.admin("POST", STEERING, this::setStandard),
            Route.admin("POST", STEERING + "/set", this::set),
            Route.admin("POST", STEERING + "/clear", this::clear),
            Route.user("GET", STEERING + "/layers", this::layers),
            Route.user("GET", STEERING + "/dynamic", this::dynamic),
            Route.user("GET", VECTORS, exchange -> exchange.answer(200, vectors())),
            Route.user("POST", VECTORS, this::preload),
            Route.admin("POST", VECTORS + "/register", this::registerVector),
            Route.admin("POST", VECTORS + "/unregister", this::unregisterVector),
            Route.user("GET", MODULES, exchange -> exchange.answer(200, modules())),
            Route.admin("POST", MODULES + "/register", this::registerModule),
            Route.admin("POST", MODULES + "/unregister", this::unregisterModule))
        .stream()
        .map(Route::tellingErrorsPlainly)
        .toList();
  }

  private static JsonObject body(Exchange exchange) {
    byte[] body = exchange.body();
    return Fields.read(null, () -> JsonObject.parse(Fields.BODY, body));
  }

  /** EasySteer's default, and RhizoNymph's vectors for all. */
  private void status(Exchange exchange) {
    PlanRegistry.Standard standard = plans.standard();
    exchange.answer(
        200,
        object(
            "active",
            standard.json() != null,
            "spec",
            standard.json(),
            "active_layers",
            plans.tiers().activeLayers()));
  }

  private void setStandard(Exchange exchange) {
    JsonObject body = body(exchange);
    SteeringPlan plan =
        plans.read(
            null,
            () -> {
              body.only("spec");
              if (!body.keys().contains("spec")) {
                throw body.wrong("spec", "a specification, or null for none");
              }
              return body.has("spec")
                  ? plans.easySteer().plan(body.object("spec"))
                  : SteeringPlan.NONE;
            });
    plans.setStandard(
        body.has("spec")
            ? new PlanRegistry.Standard(told(body.object("spec")), plan)
            : PlanRegistry.Standard.NONE);
    status(exchange);
  }

  /** A specification without the values of its vectors, which are long. */
  private static Map<String, Object> told(JsonObject specification) {
    Map<String, Object> told = new TreeMap<>(specification.values());
    List<Object> vectors = new ArrayList<>();
    for (JsonObject vector : specification.objects("vectors")) {
      Map<String, Object> each = new TreeMap<>(vector.values());
      if (vector.has("data")) {
        JsonObject data = vector.object("data");
        each.put("data", object("kind", data.value("kind"), "sha256", data.value("sha256")));
      }
      vectors.add(each);
    }
    told.put("vectors", vectors);
    return told;
  }

  /** All of it is read before any of it acts. */
  private void set(Exchange exchange) {
    JsonObject body = body(exchange);
    SteeringTiers tiers =
        Fields.read(
            null,
            () -> {
              List<String> known = new ArrayList<>(RhizoNymph.tierFields());
              known.addAll(List.of("replace", "target"));
              body.only(known.toArray(String[]::new));
              requireMain(body);
              return rhizoNymph.tiers(body);
            });
    boolean replaces = Fields.read(null, () -> body.flag("replace", false));
    plans.set(old -> replaces ? tiers : old.replacedBy(tiers));
    exchange.answer(
        200,
        object("status", "ok", "hook_points", tiers.hooks(), "layers_updated", tiers.layers()));
  }

  private void clear(Exchange exchange) {
    byte[] body = exchange.body();
    if (body.length > 0) { // it need not be there
      Fields.read(
          null,
          () -> {
            JsonObject json = JsonObject.parse(Fields.BODY, body);
            json.only("target");
            requireMain(json);
            return null;
          });
    }
    plans.set(old -> SteeringTiers.NONE);
    exchange.answer(200, object("status", "ok"));
  }

  private static void requireMain(JsonObject body) {
    if (!body.text("target", "main").equals("main")) {
      throw body.wrong("target", "\"main\": there is no other model");
    }
  }

  private void layers(Exchange exchange) {
    Map<String, Object> layers = object();
    for (int layer = 0; layer < backend.model().config().nLayers(); layer++) {
      layers.put(
          Integer.toString(layer),
          object("hook_points", List.copyOf(SteeringTiers.HOOKS.keySet())));
    }
    exchange.answer(200, object("layers", layers));
  }

  /** Nothing here steers by what it finds in activations. */
  private void dynamic(Exchange exchange) {
    exchange.answer(200, object("enabled", false, "workers", List.of()));
  }

  private Map<String, Object> vectors() {
    return object(
        "preloaded",
        List.copyOf(preloaded),
        "vectors",
        object("probe", List.of(), "steer", List.copyOf(rhizoNymph.vectors())),
        "count",
        rhizoNymph.vectors().size());
  }

  /** Looks at files that a {@code source} may name. */
  private void preload(Exchange exchange) {
    JsonObject body = body(exchange);
    preloaded.addAll(plans.read(null, () -> plans.easySteer().preload(body)));
    exchange.answer(200, vectors());
  }

  private void registerVector(Exchange exchange) {
    JsonObject body = body(exchange);
    String name = Fields.read(null, () -> rhizoNymph.registerVector(body));
    plans.forget();
    exchange.answer(200, vectorsAfter(name));
  }

  private void unregisterVector(Exchange exchange) {
    JsonObject body = body(exchange);
    if (!Fields.read(null, () -> rhizoNymph.unregisterVector(body))) {
      throw ApiError.notFound("name", "there is no such vector: " + rhizoNymph.vectors());
    }
    plans.forget();
    exchange.answer(200, vectorsAfter(body.text("name")));
  }

  private Map<String, Object> vectorsAfter(String name) {
    return object(
        "status", "ok", "name", name, "kind", "steer", "vectors", vectors().get("vectors"));
  }

  private Map<String, Object> modules() {
    List<String> names = List.copyOf(rhizoNymph.modules());
    return object("modules", names, "count", names.size());
  }

  private void registerModule(Exchange exchange) {
    JsonObject body = body(exchange);
    String name = Fields.read(null, () -> rhizoNymph.registerModule(body));
    plans.forget();
    exchange.answer(200, modulesAfter(name));
  }

  private void unregisterModule(Exchange exchange) {
    JsonObject body = body(exchange);
    if (!Fields.read(null, () -> rhizoNymph.unregisterModule(body))) {
      throw ApiError.notFound("name", "there is no such module: " + rhizoNymph.modules());
    }
    plans.forget();
    exchange.answer(200, modulesAfter(body.text("name")));
  }

  private Map<String, Object> modulesAfter(String name) {
    return object("status", "ok", "name", name, "modules", List.copyOf(rhizoNymph.modules()));
  }
}
