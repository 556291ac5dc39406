package dev.halter.serving;

import dev.halter.files.JsonObject;
import dev.halter.generation.AsyncEngine;
import dev.halter.generation.Generation;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.serving.dialects.Dialect;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Consumer;

/** What the routes of a server have in common: the model, its engine, its plans, its counts. */
final class Backend {
  /** The header that names a plan. */
  static final String PLAN_HEADER = "X-Halter-Plan";

  private static final int MOST_UNKNOWN = 1000;

  private final LanguageModel model;
  private final AsyncEngine engine;
  private final PlanRegistry plans;
  private final Metrics metrics;
  private final CaptureStore captures = new CaptureStore();
  private final Consumer<String> log;
  private final int maxQueue;
  private final String name;
  private final Set<String> unknown = ConcurrentHashMap.newKeySet(); // fields told of already
  private volatile boolean isDraining;

  Backend(LanguageModel model, int maxQueue, PlanRegistry plans, Consumer<String> log) {
    this.model = model;
    this.plans = plans;
    this.log = log;
    this.maxQueue = maxQueue;
    Path folder = model.folder().toAbsolutePath().normalize();
    this.name = folder.getFileName().toString();
    this.metrics = new Metrics(name);
    this.engine = new AsyncEngine(model.engine(), maxQueue);
  }

  LanguageModel model() {
    return model;
  }

  AsyncEngine engine() {
    return engine;
  }

  PlanRegistry plans() {
    return plans;
  }

  Metrics metrics() {
    return metrics;
  }

  CaptureStore captures() {
    return captures;
  }

  Tokenizer tokenizer() {
    return model.tokenizer();
  }

  /** What requests call the model: the name of its folder. */
  String name() {
    return name;
  }

  /** Longest prompt and answer together, in tokens. */
  int maxTokens() {
    return model.engine().maxTokens();
  }

  int vocabulary() {
    return model.config().vocabularySize();
  }

  /** Takes no more requests. */
  void drain() {
    isDraining = true;
  }

  boolean isDraining() {
    return isDraining;
  }

  /**
   * The plan of a request: what acts on every one, and then the one that the request's model,
   * header or body names or is, in whatever dialect.
   *
   * @param header the value of {@link #PLAN_HEADER}, or null
   * @throws ApiError 404 for another model, 400 for a plan that is none, or for two
   */
  SteeringPlan plan(String header, Fields fields) {
    String alias = alias(fields.text("model", name));
    JsonObject body = fields.reading("plan");
    List<String> ways = new ArrayList<>();
    if (alias != null) {
      ways.add("\"model\"");
    }
    if (header != null) {
      ways.add("the header " + PLAN_HEADER);
    }
    if (body.has("plan")) {
      ways.add("\"plan\"");
    }
    Dialect spoken = null;
    List<String> said = List.of();
    for (Dialect dialect : plans.dialects()) {
      List<String> its = dialect.in(body);
      if (!its.isEmpty()) {
        ways.add("\"" + its.getFirst() + "\"");
        its.forEach(fields::has); // they are known
        spoken = dialect;
        said = its;
      }
    }
    requireOne(ways);
    if (alias != null) {
      return plans.get("model", alias).plan();
    }
    if (header != null) {
      return plans.get(PLAN_HEADER, header).plan();
    }
    if (spoken != null) {
      return plans.brought(spoken, said, body);
    }
    return switch (body.value("plan")) {
      case null -> plans.unasked();
      case String named -> plans.get("plan", named).plan();
      case Map<?, ?> given -> plans.brought("plan", fields.object("plan"), given);
      default -> throw fields.wrong("plan", "the name of a plan, or a plan");
    };
  }

  /** Refuses a request that brings its plan in more ways than one. */
  static void requireOne(List<String> ways) {
    if (ways.size() > 1) {
      throw ApiError.badRequest(
          "plan",
          String.join(" and ", ways)
              + " each bring a plan: a request has one, so leave all but one out");
    }
  }

  /** The plan that a model's name names, or null for the model itself. */
  String alias(String asked) {
    if (asked.equals(name)) {
      return null;
    }
    if (asked.startsWith(name + "@")) {
      return asked.substring(name.length() + 1);
    }
    throw ApiError.notFound(
        "model",
        "there is no model \"%s\": this server has %s, and %s@PLAN for each of its plans"
            .formatted(Text.line(asked), name, name));
  }

  /**
   * The tokens of a text. One that begins with the token that the tokenizer puts before every text
   * gets no second one: clients that take ids to text and back (lm-eval) bring it along.
   *
   * @param addSpecial whether the tokenizer's own tokens are added
   * @throws ApiError 400 for {@code field} if the text cannot be encoded
   */
  int[] encode(String field, String text, boolean addSpecial) {
    try {
      int[] tokens = tokenizer().encode(text, addSpecial);
      boolean mayBeTwice = addSpecial && tokens.length > 1 && tokens[0] == tokens[1];
      return mayBeTwice && tokenizer().encode(text, false)[0] == tokens[0]
          ? Arrays.copyOfRange(tokens, 1, tokens.length)
          : tokens;
    } catch (IllegalArgumentException e) {
      throw ApiError.badRequest(field, e.getMessage());
    }
  }

  /**
   * How many tokens can be generated after a prompt.
   *
   * @param asked at most so many; -1 for as many as fit
   * @throws ApiError 400 with both lengths if they do not fit
   */
  int room(String field, int prompt, int asked) {
    int most = maxTokens();
    if (prompt == 0) {
      throw ApiError.badRequest(field, "the prompt is empty: it needs at least one token");
    }
    if (prompt + Math.max(0L, asked) > most || asked < 0 && prompt == most) {
      throw ApiError.badRequest(
          field,
          asked <= 0
              ? "the prompt has %,d tokens, at most %,d fit".formatted(prompt, most)
              : "the prompt has %,d tokens and %,d are to be generated, at most %,d fit together"
                  .formatted(prompt, asked, most));
    }
    return asked < 0 ? most - prompt : asked;
  }

  /**
   * Submits requests, all or none.
   *
   * @throws ApiError 503 if they do not fit the queue now, 400 if they never would
   */
  List<Generation> submit(List<Request> requests) {
    if (requests.size() > maxQueue) {
      throw ApiError.badRequest(
          "prompt",
          "%,d answers are asked for at once, at most %,d can be: send several requests"
              .formatted(requests.size(), maxQueue));
    }
    if (isDraining) {
      throw new ApiError(503, null, "the server is about to end");
    }
    List<Generation> generations = new ArrayList<>();
    try {
      for (Request request : requests) {
        generations.add(engine.submit(request));
      }
    } catch (RejectedExecutionException e) {
      generations.forEach(Generation::cancel);
      throw new ApiError(503, null, e.getMessage());
    }
    return generations;
  }

  /** Tells of fields that mean nothing here, once each. */
  void tellUnknown(String path, Fields fields) {
    for (String field : fields.unknown()) {
      if (unknown.size() < MOST_UNKNOWN && unknown.add(field)) {
        log.accept(
            "%s: the field \"%s\" means nothing here and is left out"
                .formatted(path, Text.line(field)));
      }
    }
  }
}
