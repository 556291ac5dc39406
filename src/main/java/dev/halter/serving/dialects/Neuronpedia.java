package dev.halter.serving.dialects;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.text.Message;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * What Neuronpedia's inference server is asked (hijohnnylin/neuronpedia ebb8426, {@code
 * /v1/steer/completion} and {@code …-chat}): one prompt, answered steered and as it is. Names may
 * be in camel case or with underscores.
 *
 * @param model null where it names none
 * @param prompt null in a chat
 * @param messages of a chat, else empty
 * @param types the answers, in their order
 * @param plan of those that are steered; at every token
 * @param steersSpecial whether it acts at special tokens of the prompt too
 * @param seed null for one of chance
 * @param top likeliest tokens that are told with each token; 0 to tell none
 */
public record Neuronpedia(
    String model,
    String prompt,
    List<Message> messages,
    List<Type> types,
    SteeringPlan plan,
    boolean steersSpecial,
    int maxTokens,
    float temperature,
    float frequencyPenalty,
    Long seed,
    boolean isStream,
    int top) {
  private static final int MOST_LOGPROBS = 10;

  /** How an answer is made. */
  public enum Type {
    STEERED,
    DEFAULT
  }

  /** The plan for a prompt that holds these special tokens. */
  public SteeringPlan plan(Set<Integer> special) {
    if (steersSpecial || special.isEmpty()) {
      return plan;
    }
    Trigger others = Trigger.promptTokens(special.toArray(Integer[]::new));
    return plan.when(Trigger.ALWAYS.except(others));
  }

  /** Reads a body, of a chat or of a text to go on with. */
  public static Neuronpedia read(JsonObject body, boolean isChat, ModelConfig config) {
    return new Reader(snake(body), config).read(isChat);
  }

  /** The same with all names in the spelling of Python. */
  private static JsonObject snake(JsonObject json) {
    Map<String, Object> values = new HashMap<>();
    for (String key : json.keys()) {
      String name = key.replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
      if (values.put(name, json.value(key)) != null) {
        throw new BadFileException(
            json.file(), "has \"%s\" twice, in two spellings".formatted(json.path(name)));
      }
    }
    return json.as(values);
  }

  private record Reader(JsonObject body, ModelConfig config) {
    Neuronpedia read(boolean isChat) {
      refuseOthers(isChat);
      List<Type> types = types();
      boolean steers = types.contains(Type.STEERED);
      if (steers && !body.has("vectors")) {
        throw body.wrong("vectors", "a list of at least one vector");
      }
      return new Neuronpedia(
          body.text("model", null),
          isChat ? null : body.text("prompt"),
          isChat ? messages() : List.of(),
          types,
          body.has("vectors") ? plan() : SteeringPlan.NONE,
          body.flag("steer_special_tokens", !isChat),
          body.integer("n_completion_tokens", 1, Integer.MAX_VALUE),
          (float) body.number("temperature", 0, 1e3, 1),
          (float) body.number("freq_penalty", -2, 2, 0),
          body.has("seed") ? seed() : null,
          body.flag("stream", false),
          body.integer("n_logprobs", 0, MOST_LOGPROBS, 0));
    }

    private void refuseOthers(boolean isChat) {
      List<String> known =
          new ArrayList<>(
              List.of(
                  "prompt",
                  "model",
                  "steer_method",
                  "normalize_steering",
                  "types",
                  "features",
                  "vectors",
                  "n_completion_tokens",
                  "temperature",
                  "strength_multiplier",
                  "freq_penalty",
                  "seed",
                  "stream",
                  "n_logprobs",
                  "fail_if_busy"));
      if (isChat) {
        known.addAll(List.of("steer_special_tokens", "reads", "custom_axes", "is_assistant_axis"));
      }
      body.only(known.toArray(String[]::new));
      for (String field : List.of("features", "reads", "custom_axes")) {
        if (body.has(field) && !List.of().equals(body.value(field))) {
          throw body.wrong(
              field,
              field.equals("features")
                  ? "left out: this server has no SAEs; send their vectors as \"vectors\""
                  : "left out: nothing is read off an answer here");
        }
      }
      for (String field : List.of("fail_if_busy", "is_assistant_axis")) {
        if (body.flag(field, false)) {
          throw body.wrong(field, "false");
        }
      }
    }

    private List<Type> types() {
      String wanted = "a list of STEERED and DEFAULT, each at most once";
      if (!body.has("types")) {
        return List.of(Type.values());
      }
      List<String> names = body.texts("types");
      if (names.isEmpty()
          || !List.of("STEERED", "DEFAULT").containsAll(names)
          || Set.copyOf(names).size() != names.size()) {
        throw body.wrong("types", wanted);
      }
      return names.stream().map(Type::valueOf).toList();
    }

    private List<Message> messages() {
      List<Message> messages = new ArrayList<>();
      for (JsonObject message : body.objects("prompt")) {
        message.only("role", "content");
        messages.add(new Message(message.text("role"), message.text("content")));
      }
      if (messages.isEmpty()) {
        throw body.wrong("prompt", "a list of at least one {\"role\", \"content\"}");
      }
      return messages;
    }

    private long seed() {
      double seed = body.number("seed", -1e15, 1e15); // theirs is a float
      return (long) seed;
    }

    private SteeringPlan plan() {
      List<JsonObject> vectors = body.objects("vectors");
      if (vectors.isEmpty()) {
        throw body.wrong("vectors", "a list of at least one vector");
      }
      String method = body.text("steer_method", "SIMPLE_ADDITIVE");
      boolean isNormed = body.flag("normalize_steering", false);
      float multiplier = Numbers.number(body, "strength_multiplier", 1);
      List<Intervention> interventions = new ArrayList<>();
      for (JsonObject given : vectors) {
        JsonObject vector = snake(given);
        vector.only("steering_vector", "strength", "hook");
        float strength = multiplier * Numbers.number(vector, "strength", 1);
        float[] values = Numbers.vector(vector, "steering_vector", config.dModel());
        Edit edit =
            switch (method) {
              case "SIMPLE_ADDITIVE", "ADDITIVE" ->
                  new Edit.Add(
                      site(vector),
                      isNormed ? Numbers.unit(vector, "steering_vector", values) : values,
                      strength);
              // What is along the vector becomes strength times as much.
              case "ORTHOGONAL_DECOMP", "ORTHOGONAL" ->
                  new Edit.Ablate(
                      site(vector), Numbers.unit(vector, "steering_vector", values), 1 - strength);
              case "PROJECTION_CAP" ->
                  new Edit.Project(
                      site(vector),
                      Numbers.unit(vector, "steering_vector", values),
                      Float.NEGATIVE_INFINITY,
                      strength);
              default ->
                  throw body.wrong(
                      "steer_method", "SIMPLE_ADDITIVE, ORTHOGONAL_DECOMP or PROJECTION_CAP");
            };
        interventions.add(new Intervention(edit, Trigger.ALWAYS));
      }
      return new SteeringPlan("vectors", interventions);
    }

    private Site site(JsonObject vector) {
      String hook = vector.text("hook");
      try {
        Site site = Site.parse(hook, config);
        if (site.kind().isResidual()) {
          return site;
        }
      } catch (IllegalArgumentException e) {
        throw new BadFileException(
            vector.file(), "\"" + vector.path("hook") + "\": " + e.getMessage(), e);
      }
      throw vector.wrong("hook", "a site of d_model values, such as blocks.0.hook_resid_post");
    }
  }
}
