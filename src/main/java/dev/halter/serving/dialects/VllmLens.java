package dev.halter.serving.dialects;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.stream.IntStream;

/**
 * vLLM-Lens (UKGovernmentBEIS/vllm-lens 1.2): {@code vllm_xargs}, whose {@code
 * apply_steering_vectors} add to the outputs of blocks, {@code blocks.L.hook_resid_post}. Its
 * values are JSON, or JSON in a text, as its client sends them.
 */
public record VllmLens(ModelConfig config) implements Dialect {
  private static final String FIELD = "vllm_xargs";
  private static final String VECTORS = "apply_steering_vectors";
  private static final String STREAM = "output_residual_stream";

  @Override
  public List<String> in(JsonObject body) {
    return body.has(FIELD) ? List.of(FIELD) : List.of();
  }

  @Override
  public SteeringPlan plan(JsonObject body, Before before) {
    JsonObject arguments = body.object(FIELD);
    refuseOthers(arguments);
    List<Intervention> interventions = new ArrayList<>();
    for (JsonObject vector : vectors(arguments)) {
      interventions.addAll(interventions(vector));
    }
    return before.plan().then(new SteeringPlan(FIELD, interventions));
  }

  private static void refuseOthers(JsonObject arguments) {
    if (arguments.has("apply_hooks")) {
      throw new BadFileException(
          arguments.file(),
          "\"%s\" is not served: code that comes with a request is never run here; leave it out"
              .formatted(arguments.path("apply_hooks")));
    }
    // What is said of the cache changes no result: activations are the same with it and without.
    arguments.only(VECTORS, STREAM, "apply_hooks", "skip_reading_prefix_cache");
  }

  private static List<JsonObject> vectors(JsonObject arguments) {
    return parsed(arguments, VECTORS).objects(VECTORS);
  }

  /** A list that may be JSON in a text. */
  private static JsonObject parsed(JsonObject arguments, String key) {
    return arguments.value(key) instanceof String text
        ? JsonObject.parseList(arguments.file(), key, text.getBytes(StandardCharsets.UTF_8))
        : arguments;
  }

  /**
   * The layers whose outputs a body asks for, in ascending order: at every token of the prompt, and
   * at every generated one that is fed back.
   *
   * @return empty where it asks for none
   */
  public NavigableSet<Integer> residualStream(JsonObject body) {
    NavigableSet<Integer> layers = new TreeSet<>();
    if (!body.has(FIELD) || !body.object(FIELD).has(STREAM)) {
      return layers;
    }
    JsonObject arguments = body.object(FIELD);
    if (Boolean.TRUE.equals(arguments.value(STREAM))) {
      IntStream.range(0, config.nLayers()).forEach(layers::add);
    } else {
      layers.addAll(Numbers.indices(parsed(arguments, STREAM), STREAM, config.nLayers()));
    }
    return layers;
  }

  private List<Intervention> interventions(JsonObject vector) {
    vector.only("activations", "layer_indices", "scale", "norm_match", "position_indices");
    if (vector.flag("norm_match", false)) {
      throw vector.wrong(
          "norm_match", "false: no plan adds in proportion to the length of what is there");
    }
    List<Integer> layers = Numbers.indices(vector, "layer_indices", config.nLayers());
    float scale = Numbers.number(vector, "scale", 1);
    JsonObject tensor = vector.object("activations");
    List<Integer> shape = Numbers.shape(tensor);
    int d = config.dModel();
    boolean isPlaced = shape.size() == 3;
    if (!isPlaced && shape.size() != 2
        || shape.getFirst() != layers.size()
        || shape.getLast() != d
        || shape.contains(0)) {
      throw tensor.wrong(
          "shape",
          "[%d, %d] or [%d, positions, %d]: a row of d_model values for each of layer_indices"
              .formatted(layers.size(), d, layers.size(), d));
    }
    if (!isPlaced && vector.has("position_indices")) {
      throw vector.wrong("position_indices", "left out where \"activations\" has no positions");
    }
    int positions = isPlaced ? shape.get(1) : 1;
    float[][] rows = rows(tensor, layers.size() * positions);
    List<Integer> at = isPlaced ? positions(vector, positions) : List.of();
    List<Intervention> interventions = new ArrayList<>();
    for (int i = 0; i < rows.length; i++) {
      Site site = new Site(Site.Kind.RESID_POST, layers.get(i / positions));
      Edit add = new Edit.Add(site, rows[i], scale);
      interventions.add(
          new Intervention(add, isPlaced ? place(at.get(i % positions)) : Trigger.ALWAYS));
    }
    return interventions;
  }

  /** A place of the prompt; one that a prompt has not selects nothing, which is an error there. */
  private static Trigger place(int position) {
    return Trigger.promptWindow(position, position + 1);
  }

  private List<Integer> positions(JsonObject vector, int count) {
    List<Integer> positions = new ArrayList<>();
    if (!vector.has("position_indices")) {
      for (int i = 0; i < count; i++) {
        positions.add(i);
      }
      return positions;
    }
    positions.addAll(Numbers.indices(vector, "position_indices", config.maxPositions()));
    if (positions.size() != count) {
      throw vector.wrong("position_indices", "%d positions, as many as rows".formatted(count));
    }
    return positions;
  }

  private float[][] rows(JsonObject tensor, int rows) {
    tensor.only("data", "dtype", "original_dtype", "shape", "compression");
    String stored = tensor.text("dtype");
    // numpy has no bfloat16, so its bits come as integers.
    String type =
        stored.equals("int16") && "torch.bfloat16".equals(tensor.value("original_dtype"))
            ? "bfloat16"
            : stored;
    byte[] bytes = Numbers.bytes(tensor);
    if (tensor.has("compression")) {
      if (!"zstd".equals(tensor.value("compression"))) {
        throw tensor.wrong("compression", "\"zstd\", or left out");
      }
      int size = Numbers.size(tensor, type) * rows * config.dModel();
      bytes = Numbers.inflate(tensor, bytes, size);
    }
    return Numbers.rows(tensor, bytes, type, rows, config.dModel());
  }
}
