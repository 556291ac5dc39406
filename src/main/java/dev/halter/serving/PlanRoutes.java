package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The models of a server, each plan one of them, and the plans themselves. */
final class PlanRoutes {
  private static final String MODELS = "/v1/models";
  private static final String PLANS = "/v1/plans";

  private final Backend backend;
  private final long created = Instant.now().getEpochSecond();

  PlanRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(
        Route.user("GET", MODELS, this::models),
        Route.user("GET", MODELS + "/", this::model),
        Route.user("GET", PLANS, this::plans),
        Route.user("GET", PLANS + "/", this::plan),
        Route.admin("PUT", PLANS + "/", this::put),
        Route.admin("DELETE", PLANS + "/", this::delete));
  }

  private void models(Exchange exchange) {
    List<Object> cards = new ArrayList<>();
    cards.add(card(null));
    backend.plans().entries().forEach(entry -> cards.add(card(entry.name())));
    exchange.answer(200, object("object", "list", "data", cards));
  }

  private void model(Exchange exchange) {
    String plan = backend.alias(exchange.after(MODELS + "/"));
    exchange.answer(200, card(plan == null ? null : find("model", plan).name()));
  }

  /** A model as vLLM lists it, which lists those of adapters in the same way, and its shape. */
  private Map<String, Object> card(String plan) {
    ModelConfig config = backend.model().config();
    Map<String, Object> card =
        object(
            "id",
            plan == null ? backend.name() : backend.name() + "@" + plan,
            "object",
            "model",
            "created",
            created,
            "owned_by",
            "halter",
            "root",
            backend.name(),
            "parent",
            plan == null ? null : backend.name(),
            "max_model_len",
            backend.maxTokens());
    card.put(
        "halter",
        object(
            "n_layers",
            config.nLayers(),
            "n_heads",
            config.nHeads(),
            "d_model",
            config.dModel(),
            "d_mlp",
            config.dMlp()));
    return card;
  }

  private void plans(Exchange exchange) {
    List<Object> plans = new ArrayList<>();
    for (PlanRegistry.Entry entry : backend.plans().entries()) {
      plans.add(summary(entry));
    }
    SteeringPlan first = backend.plans().first();
    exchange.answer(
        200,
        object(
            "object",
            "list",
            "data",
            plans,
            "default",
            first.interventions().isEmpty() ? null : first.name()));
  }

  private static Map<String, Object> summary(PlanRegistry.Entry entry) {
    List<Object> interventions = new ArrayList<>();
    entry
        .own()
        .interventions()
        .forEach(
            each -> interventions.add(object("op", each.op(), "site", each.edit().site().name())));
    return object("name", entry.name(), "object", "plan", "interventions", interventions);
  }

  private void plan(Exchange exchange) {
    PlanRegistry.Entry entry = find("name", exchange.after(PLANS + "/"));
    exchange.answer(
        200, object("name", entry.name(), "object", "plan", "plan", entry.json().values()));
  }

  /** The plan that a path names, which is not there if there is none. */
  private PlanRegistry.Entry find(String field, String name) {
    try {
      return backend.plans().get(field, name);
    } catch (ApiError e) {
      throw ApiError.notFound(field, e.getMessage());
    }
  }

  private void put(Exchange exchange) {
    String name = exchange.after(PLANS + "/");
    PlanRegistry.Replaced replaced = backend.plans().put(name, exchange.body());
    exchange.answer(replaced.before() == null ? 201 : 200, summary(replaced.entry()));
  }

  private void delete(Exchange exchange) {
    String name = exchange.after(PLANS + "/");
    backend.plans().remove(name);
    exchange.answer(200, object("name", name, "object", "plan", "deleted", true));
  }
}
