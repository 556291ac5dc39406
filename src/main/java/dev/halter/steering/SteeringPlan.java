package dev.halter.steering;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.NamedFiles;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.sparse.DictionaryFile;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SteeringVectors;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * What is to be changed while a request runs: edits, each with the tokens at which it acts, in the
 * order in which they act where they meet at one site. Plans are made here or read from files, and
 * compose:
 *
 * {@snippet file="dev/halter/snippets/SteeringSnippetsTest.java" region="plan"}
 *
 * <p>Requests that share a plan, the very same object, share its tables on the device: make a plan
 * once and use it often.
 */
public record SteeringPlan(String name, List<Intervention> interventions) {
  /** No steering. */
  public static final SteeringPlan NONE = new SteeringPlan("none", List.of());

  /** What a file that gives no name calls its plan. */
  public static final String UNNAMED = "unnamed";

  /** One edit and when it acts. */
  public record Intervention(Edit edit, Trigger trigger) {
    /** The operation's name in plan files. */
    public String op() {
      return edit.op();
    }
  }

  public SteeringPlan {
    interventions = List.copyOf(interventions);
  }

  /** A plan of edits that act at every token of prompt and generation. */
  public static SteeringPlan of(Edit... edits) {
    return of(List.of(edits));
  }

  /** As {@link #of(Edit...)}. */
  public static SteeringPlan of(List<? extends Edit> edits) {
    List<Intervention> interventions = new ArrayList<>();
    edits.forEach(edit -> interventions.add(new Intervention(edit, Trigger.ALWAYS)));
    return new SteeringPlan(
        edits.stream().map(Edit::op).distinct().collect(Collectors.joining(", ")), interventions);
  }

  /** The same edits, all of them acting at these tokens instead. */
  public SteeringPlan when(Trigger trigger) {
    return new SteeringPlan(
        name, interventions.stream().map(each -> new Intervention(each.edit, trigger)).toList());
  }

  /**
   * The same plan at a strength: every intervention makes {@code strength} times the change that it
   * would make, at the same tokens. 0 steers to no effect, 1 is this plan; see {@link Edit#scaled}.
   */
  public SteeringPlan scaled(double strength) {
    return new SteeringPlan(
        name,
        interventions.stream()
            .map(each -> new Intervention(each.edit.scaled(strength), each.trigger))
            .toList());
  }

  /**
   * The same edits at the same tokens of a text that is read in one go, where this plan means a
   * prompt and the tokens that were generated after it: what it would have done had the model said
   * them. Edits that act on none of them are left out.
   *
   * @param text prompt and answer
   * @param prompt how many of its tokens are the prompt, at least one
   * @throws IllegalArgumentException if the plan {@link #isSolvedAtPromptEnd}: in such a text that
   *     place is not known
   */
  public SteeringPlan along(int[] text, int prompt) {
    if (isSolvedAtPromptEnd()) {
      throw new IllegalArgumentException(
          name + " is solved at the prompt's end: it cannot act on a text that is given whole");
    }
    List<Intervention> same = new ArrayList<>();
    boolean changed = false;
    for (Intervention each : interventions) {
      Trigger trigger = each.trigger.along(text, prompt);
      changed |= !each.trigger.equals(trigger);
      if (trigger != null) {
        same.add(new Intervention(each.edit, trigger));
      }
    }
    return changed ? new SteeringPlan(name, same) : this;
  }

  /** Whether it removes concepts by a code that is made at the prompt's end alone. */
  public boolean isSolvedAtPromptEnd() {
    return interventions.stream()
        .anyMatch(
            each ->
                each.edit instanceof RemoveConcepts removed
                    && removed.coding().when() == RemoveConcepts.Solve.PROMPT_END);
  }

  /** The same by another name, which errors and reports use. */
  public SteeringPlan named(String newName) {
    return new SteeringPlan(newName, interventions);
  }

  /** This plan's interventions followed by another's. */
  public SteeringPlan then(SteeringPlan other) {
    if (interventions.isEmpty()) {
      return other;
    }
    if (other.interventions.isEmpty()) {
      return this;
    }
    List<Intervention> both = new ArrayList<>(interventions);
    both.addAll(other.interventions);
    return new SteeringPlan(name + ", " + other.name, both);
  }

  /**
   * A name for what the plan does: equal for plans of equal edits at the same sites and tokens, in
   * the same order, however they are called and wherever they come from. A dictionary counts by the
   * path of its file.
   *
   * @return 32 hexadecimal digits of a SHA-256 over all its values
   */
  public String fingerprint() {
    EditHash hash = new EditHash("halter-plan-1".getBytes(StandardCharsets.US_ASCII));
    for (Intervention each : interventions) {
      hash.add(each.edit, coding -> 0).add(each.trigger);
    }
    return HexFormat.of().formatHex(hash.digest(), 0, 16);
  }

  /**
   * Reads a plan file; vector files are found from its folder.
   *
   * @throws BadFileException naming what is unknown, out of range or useless, and the allowed range
   */
  public static SteeringPlan read(Path file, ModelConfig config) {
    Path folder = file.toAbsolutePath().getParent();
    return of(JsonObject.read(file), folder, config);
  }

  /** Several plan files as one plan, in their order; of no file, {@link #NONE}. */
  public static SteeringPlan readAll(List<Path> files, ModelConfig config) {
    SteeringPlan plan = NONE;
    for (Path file : files) {
      plan = plan.then(read(file, config));
    }
    return plan;
  }

  /** Reads a plan from its text; vector files are found from {@code folder}. */
  public static SteeringPlan parse(String json, Path folder, ModelConfig config) {
    byte[] bytes = json.getBytes(StandardCharsets.UTF_8);
    return of(JsonObject.parse(Path.of("plan"), bytes), folder, config);
  }

  /** Reads a plan from parsed JSON; vector files are found from {@code folder}. */
  public static SteeringPlan of(JsonObject json, Path folder, ModelConfig config) {
    return of(json, NamedFiles.in(folder), config);
  }

  /** Reads a plan from parsed JSON, which opens none but these files. */
  public static SteeringPlan of(JsonObject json, NamedFiles files, ModelConfig config) {
    json.only("name", "interventions", "when");
    List<JsonObject> list = json.objects("interventions");
    if (list.isEmpty()) {
      throw json.wrong("interventions", "a list of at least one intervention");
    }
    Trigger trigger =
        json.has("when")
            ? Trigger.read(json.object("when"), config.vocabularySize())
            : Trigger.ALWAYS;
    List<Intervention> interventions = new ArrayList<>();
    for (JsonObject intervention : list) {
      interventions.addAll(new Reader(intervention, files, config).read(trigger));
    }
    return new SteeringPlan(json.text("name", UNNAMED), interventions);
  }

  /** Reads one object of the list. */
  private record Reader(JsonObject json, NamedFiles files, ModelConfig config) {

    /** One intervention, or one for each layer of a file that is about several. */
    List<Intervention> read(Trigger plans) {
      String op = json.text("op");
      List<Edit> edits =
          switch (op) {
            case "neuron_clamp" -> List.of(atStrength(neuronClamp()));
            case "head_scale" -> List.of(atStrength(headScale()));
            case "head_affine" -> headAffine();
            case "add" -> List.of(atStrength(add()));
            case "ablate" -> List.of(atStrength(ablate()));
            case "project_clamp" -> List.of(atStrength(projectClamp()));
            case "remove_concepts" -> RemoveConcepts.read(json, files, config);
            default ->
                throw json.wrong(
                    "op",
                    "one of neuron_clamp, head_scale, head_affine, add, ablate, project_clamp,"
                        + " remove_concepts");
          };
      // The nearer `when` counts.
      Trigger trigger =
          json.has("when") ? Trigger.read(json.object("when"), config.vocabularySize()) : plans;
      return edits.stream().map(edit -> new Intervention(edit, trigger)).toList();
    }

    /** The share of the change that it says; a file's maps and removals take theirs themselves. */
    private Edit atStrength(Edit edit) {
      return edit.scaled(strength());
    }

    private Edit neuronClamp() {
      json.only("op", "site", "neurons", "value", "min", "max", "scale", "strength", "when");
      Site site = site();
      if (!site.kind().isNeurons()) {
        throw json.wrong("site", "blocks.L.mlp.hook_pre, hook_pre_linear or hook_post");
      }
      int[] neurons = indices("neurons", config.dMlp());
      boolean bounds = json.has("min") || json.has("max");
      int ways = (json.has("value") ? 1 : 0) + (bounds ? 1 : 0) + (json.has("scale") ? 1 : 0);
      if (ways != 1) {
        throw new BadFileException(
            json.file(),
            "\"" + json.path("") + "\" must have exactly one of value, min and/or max, scale");
      }
      if (json.has("value")) {
        float value = number("value");
        return new Edit.Neurons(site, neurons, 0, value, value);
      }
      if (json.has("scale")) {
        return new Edit.Neurons(
            site, neurons, number("scale"), Float.NEGATIVE_INFINITY, Float.POSITIVE_INFINITY);
      }
      float[] range = range();
      return new Edit.Neurons(site, neurons, 1, range[0], range[1]);
    }

    private Edit headScale() {
      json.only("op", "site", "heads", "scale", "strength", "when");
      Site site = site();
      if (site.kind() != Site.Kind.Z) {
        throw json.wrong("site", "blocks.L.attn.hook_z");
      }
      return new Edit.Heads(site, indices("heads", config.nHeads()), number("scale"));
    }

    private List<Edit> headAffine() {
      json.only("op", "file", "heads", "strength", "when");
      Path file = json.path("file", files);
      HeadControl control = HeadControl.read(file, config);
      if (json.has("heads")) {
        control = control.only(heads(control));
      }
      return control.edits(strength());
    }

    /** The subset of a control's heads that {@code "heads": ["12.22", …]} names. */
    private List<Head> heads(HeadControl control) {
      List<Head> heads = new ArrayList<>();
      if (json.value("heads") instanceof List<?> names) {
        for (Object name : names) {
          control.heads().stream().filter(head -> head.toString().equals(name)).forEach(heads::add);
        }
        if (!heads.isEmpty() && heads.size() == new HashSet<>(names).size()) {
          return heads;
        }
      }
      throw json.wrong(
          "heads",
          "a list of distinct heads of the file, such as \"12.22\": it has " + control.heads());
    }

    private Edit add() {
      json.only("op", "site", "vector", "layer_shift", "scale", "strength", "when");
      Site site = residualSite();
      return new Edit.Add(site, vector(site), json.has("scale") ? number("scale") : 1);
    }

    private Edit ablate() {
      json.only("op", "site", "vector", "layer_shift", "strength", "when");
      Site site = residualSite();
      return new Edit.Ablate(site, unit(site));
    }

    private Edit projectClamp() {
      json.only("op", "site", "vector", "layer_shift", "min", "max", "strength", "when");
      Site site = residualSite();
      float[] range = range();
      return new Edit.Project(site, unit(site), range[0], range[1]);
    }

    private Site site() {
      String name = json.text("site");
      try {
        return Site.parse(name, config);
      } catch (IllegalArgumentException e) {
        throw new BadFileException(
            json.file(), "\"" + json.path("site") + "\": " + e.getMessage(), e);
      }
    }

    private Site residualSite() {
      Site site = site();
      if (!site.kind().isResidual()) {
        throw json.wrong(
            "site",
            "a d_model site: hook_embed or blocks.L.hook_resid_pre, hook_resid_mid,"
                + " hook_resid_post, hook_attn_out, hook_mlp_out");
      }
      return site;
    }

    private float[] vector(Site site) {
      int shift = json.integer("layer_shift", -config.nLayers(), config.nLayers(), 0);
      if (json.value("vector") instanceof Map<?, ?>) {
        JsonObject vector = json.object("vector");
        return vector.has("base64")
            ? values(vector)
            : concept(vector, Math.addExact(site.layer(), shift));
      }
      try {
        return SteeringVectors.read(
            files, json.text("vector"), site.layer(), shift, config.dModel());
      } catch (BadFileException e) {
        throw e;
      } catch (IllegalArgumentException e) {
        throw new BadFileException(
            json.file(), "\"" + json.path("vector") + "\": " + e.getMessage(), e);
      }
    }

    /** The vector itself: its little-endian f32 values in base64. */
    private float[] values(JsonObject vector) {
      vector.only("base64");
      String wanted = "the base64 of %d little-endian f32 values".formatted(config.dModel());
      try {
        byte[] bytes = Base64.getDecoder().decode(vector.text("base64"));
        float[] values = new float[config.dModel()];
        if (bytes.length == 4 * values.length) {
          ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
          for (float value : values) {
            if (!Float.isFinite(value)) {
              throw vector.wrong("base64", wanted + ", all of them finite");
            }
          }
          return values;
        }
      } catch (BadFileException e) {
        throw e;
      } catch (IllegalArgumentException e) {
        // no base64: told below
      }
      throw vector.wrong("base64", wanted);
    }

    /** An atom of a dictionary, as its file has it. */
    private float[] concept(JsonObject vector, int layer) {
      vector.only("dictionary", "concept");
      Path file = vector.path("dictionary", files);
      try (DictionaryFile dictionary = DictionaryFile.open(file)) {
        dictionary.requireWidth(config.dModel());
        return dictionary.atom(layer, vector.text("concept"));
      }
    }

    private float[] unit(Site site) {
      try {
        return Edit.unit(vector(site));
      } catch (BadFileException e) {
        throw e;
      } catch (IllegalArgumentException e) {
        throw json.wrong("vector", "a vector that is not zero: it has no direction");
      }
    }

    private float[] range() {
      if (!json.has("min") && !json.has("max")) {
        throw json.wrong("min", "a number, or max must be one");
      }
      float min = json.has("min") ? number("min") : Float.NEGATIVE_INFINITY;
      float max = json.has("max") ? number("max") : Float.POSITIVE_INFINITY;
      if (min > max) {
        throw json.wrong("min", "at most max");
      }
      return new float[] {min, max};
    }

    /** How far an edit goes: 1 all the way. */
    private float strength() {
      return json.has("strength") ? number("strength") : 1;
    }

    private float number(String key) {
      return (float) json.number(key, -1e30, 1e30);
    }

    /** Distinct indices below {@code count}, at least one. */
    private int[] indices(String key, int count) {
      String allowed = "a list of distinct integers from 0 to " + (count - 1);
      if (!(json.value(key) instanceof List<?> items) || items.isEmpty()) {
        throw json.wrong(key, allowed);
      }
      Set<Integer> seen = new HashSet<>();
      int[] indices = new int[items.size()];
      for (int i = 0; i < indices.length; i++) {
        if (!(items.get(i) instanceof Integer index)
            || index < 0
            || index >= count
            || !seen.add(index)) {
          throw new BadFileException(
              json.file(),
              "\"" + json.path(key) + "\" names " + items.get(i) + ", but must be " + allowed);
        }
        indices[i] = index;
      }
      return indices;
    }
  }
}
