package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.model.Site;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.neurons.NeuronSearch;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Neurons by token and tokens by neuron, as {@code halter neurons} finds them. */
final class NeuronRoutes {
  private static final Pattern NEURON = Pattern.compile("(\\d{1,6})\\.(\\d{1,9})");
  private static final List<String> QUESTIONS = List.of("token", "text", "token_ids", "neuron");

  private final Backend backend;
  private final NeuronMaps maps;

  NeuronRoutes(Backend backend, NeuronMaps maps) {
    this.backend = backend;
    this.maps = maps;
  }

  List<Route> routes() {
    return List.of(Route.user("POST", "/v1/neurons/search", this::search));
  }

  private void search(Exchange exchange) {
    Fields fields = exchange.fields();
    List<String> asked = QUESTIONS.stream().filter(fields::has).toList();
    if (asked.size() != 1) {
      throw ApiError.badRequest(
          "token", "must have exactly one of " + String.join(", ", QUESTIONS));
    }
    int top = fields.integer("top", 1, Integer.MAX_VALUE, 10);
    double least = fields.number("min_probability", 0, 1, 0);
    Sign sign = fields.constant("sign", Sign.class, Sign.BOTH);
    List<Integer> layers = layers(fields);
    Set<Integer> concept = concept(fields);
    Matcher neuron = NEURON.matcher(fields.text("neuron", ""));
    if (fields.has("neuron") && !neuron.matches()) {
      throw fields.wrong("neuron", "a neuron, as LAYER.NEURON: \"3.512\"");
    }
    Projection projection = fields.constant("proj", Projection.class, null);
    Decode decode = fields.constant("decode", Decode.class, null);
    fields.refuseUnknown();
    NeuronSearch search = maps.search(projection, decode);
    List<Hit> hits =
        fields.has("neuron")
            ? byNeuron(search, neuron, top)
            : search.byToken(
                concept, new Bounds(layers.getFirst(), layers.getLast(), least, Integer.MAX_VALUE));
    List<Integer> signs = Arrays.stream(sign.factors()).boxed().toList();
    NeuronMap.Settings settings = search.map().settings();
    exchange.answer(
        200,
        object(
            "object",
            "list",
            "map",
            object(
                "proj", NeuronMap.name(settings.projection()),
                "decode", NeuronMap.name(settings.decode()),
                "sign", NeuronMap.name(settings.sign()),
                "k", settings.k(),
                "site", new Site(settings.projection().site(), 0).name().replace("0", "*")),
            "data",
            hits.stream()
                .filter(hit -> signs.contains(hit.sign()) && hit.probability() >= least)
                .limit(fields.has("neuron") ? Long.MAX_VALUE : top)
                .map(hit -> hit.json(backend.tokenizer()::piece))
                .toList()));
  }

  private static List<Hit> byNeuron(NeuronSearch search, Matcher neuron, int top) {
    try {
      return search.byNeuron(
          Integer.parseInt(neuron.group(1)), Integer.parseInt(neuron.group(2)), top);
    } catch (IllegalArgumentException e) {
      throw ApiError.badRequest("neuron", e.getMessage());
    }
  }

  /** The first layer and the last one. */
  private List<Integer> layers(Fields fields) {
    int last = backend.model().config().nLayers() - 1;
    if (!fields.has("layers")) {
      return List.of(0, last);
    }
    if (fields.has("neuron")) {
      throw fields.wrong("layers", "left out where \"neuron\" names one");
    }
    if (fields.value("layers") instanceof List<?> list
        && list.size() == 2
        && list.get(0) instanceof Integer from
        && list.get(1) instanceof Integer to
        && from >= 0
        && from <= to
        && to <= last) {
      return List.of(from, to);
    }
    throw fields.wrong("layers", "[first, last], of layers 0 to " + last);
  }

  /** The tokens that are meant, none where a neuron is asked for. */
  private Set<Integer> concept(Fields fields) {
    Set<Integer> tokens = new LinkedHashSet<>(fields.tokens("token_ids", backend.vocabulary()));
    String field = fields.has("text") ? "text" : "token";
    try {
      fields.texts("token").forEach(word -> tokens.addAll(backend.tokenizer().tokensOf(word)));
      Arrays.stream(backend.tokenizer().encode(fields.text("text", ""), false))
          .forEach(tokens::add);
    } catch (IllegalArgumentException e) {
      throw ApiError.badRequest(field, e.getMessage());
    }
    if (tokens.isEmpty() && !fields.has("neuron")) {
      throw fields.wrong(fields.has("token_ids") ? "token_ids" : field, "of at least one token");
    }
    return tokens;
  }
}
