package dev.halter.serving;

import dev.halter.files.JsonObject;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.serving.dialects.VllmLens;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * What a request wants to have read: its field {@code "capture"}, or what vLLM-Lens has for it.
 *
 * @param when of which tokens; positions beyond a prompt are errors here, where plans clamp them
 * @param isDownload whether it is fetched later, and not a part of the answer
 * @param isTensor whether it is told as vLLM-Lens tells it, one tensor of all sites
 */
record CaptureFields(
    ModelConfig config, Set<Site> sites, Trigger when, boolean isDownload, boolean isTensor) {
  static final String NAME = "capture";

  /** Positions that one phase may name: each is looked for at each token. */
  private static final int MOST_POSITIONS = 4096;

  /** The field; null where the request has none. */
  static CaptureFields read(Fields fields, ModelConfig config) {
    NavigableSet<Integer> layers =
        Fields.read(
            "vllm_xargs", () -> new VllmLens(config).residualStream(fields.reading("vllm_xargs")));
    if (layers.isEmpty()) {
      return fields.has(NAME) ? Fields.read(NAME, () -> of(fields.object(NAME), config)) : null;
    }
    if (fields.has(NAME)) {
      throw fields.wrong(NAME, "left out where \"vllm_xargs\" asks for activations");
    }
    Set<Site> sites = new LinkedHashSet<>();
    layers.forEach(layer -> sites.add(new Site(Site.Kind.RESID_POST, layer)));
    return new CaptureFields(config, sites, Trigger.ALWAYS, false, true);
  }

  private static CaptureFields of(JsonObject json, ModelConfig config) {
    json.only("sites", "positions", "as");
    String as = json.text("as", "base64");
    if (!as.equals("base64") && !as.equals("download")) {
      throw json.wrong("as", "\"base64\" or \"download\"");
    }
    Trigger when = when(json, config);
    for (Trigger.Phase phase : List.of(when.prompt(), when.generation())) {
      for (Trigger.Selection some : List.of(phase.include(), phase.exclude())) {
        if (some.positions() != null && some.positions().size() > MOST_POSITIONS) {
          throw json.wrong(
              "positions",
              "of at most %,d that are named: take a window".formatted(MOST_POSITIONS));
        }
      }
    }
    return new CaptureFields(config, sites(json, config), when, as.equals("download"), false);
  }

  private static Set<Site> sites(JsonObject json, ModelConfig config) {
    List<String> names =
        json.value("sites") instanceof String one ? List.of(one) : json.texts("sites");
    if (names.isEmpty()) {
      throw json.wrong("sites", "a list of at least one TransformerLens name");
    }
    Set<Site> sites = new LinkedHashSet<>();
    try {
      names.forEach(name -> sites.addAll(Site.expand(name, config)));
    } catch (IllegalArgumentException e) {
      throw ApiError.badRequest(NAME, "\"" + json.path("sites") + "\": " + e.getMessage());
    }
    return sites;
  }

  private static Trigger when(JsonObject json, ModelConfig config) {
    Object given = json.value("positions");
    if (given == null || given.equals("all")) {
      return Trigger.PROMPT;
    }
    if (given.equals("last")) {
      return Trigger.LAST;
    }
    if (given instanceof Map<?, ?>) {
      return Trigger.read(json.object("positions"), config.vocabularySize());
    }
    if (given instanceof List<?> list
        && !list.isEmpty()
        && list.stream().allMatch(Integer.class::isInstance)) {
      return Trigger.promptPositions(list.toArray(Integer[]::new));
    }
    throw json.wrong(
        "positions",
        "\"all\", \"last\", a list of positions in the prompt, or an object as a plan's \"when\"");
  }

  /** The tokens of a prompt that are read. */
  private int[] positions(int... prompt) {
    int length = prompt.length;
    List<Integer> asked = when.prompt().include().positions();
    for (int position : asked == null ? List.<Integer>of() : asked) {
      if (position >= length || position < -length) {
        throw ApiError.badRequest(
            NAME,
            "position %d is not in the prompt, which has %,d tokens: %d to %d, or from the end %d to -1"
                .formatted(position, length, 0, length - 1, -length));
      }
    }
    return IntStream.range(0, length)
        .filter(at -> when.selectsPrompt(at, length, prompt[at]))
        .toArray();
  }

  /**
   * Most tokens that are read of an answer of up to {@code maxTokens}, whose last is not fed back.
   */
  private int generated(int maxTokens) {
    if (when.generation().include().tokens() != null) {
      return Math.max(0, maxTokens - 1);
    }
    return (int)
        IntStream.range(0, maxTokens - 1).filter(at -> when.selectsGenerated(at, -1)).count();
  }

  /**
   * Bytes of what is read of one answer, at most.
   *
   * @throws ApiError if it would be nothing
   */
  long bytes(int[] prompt, int maxTokens) {
    int generated = generated(maxTokens);
    int tokens = positions(prompt).length + generated;
    if (tokens == 0) {
      throw ApiError.badRequest(
          NAME,
          "it selects none of the prompt's %,d tokens, and none that is generated and fed back"
              .formatted(prompt.length));
    }
    int keys = prompt.length + (generated == 0 ? 0 : maxTokens - 1);
    return sites.stream().mapToLong(site -> 4 * Capture.elements(site, config, tokens, keys)).sum();
  }

  /** For one answer. */
  Capture capture(int... prompt) {
    return new Capture(config, sites, prompt.length, positions(prompt), when::selectsGenerated);
  }
}
