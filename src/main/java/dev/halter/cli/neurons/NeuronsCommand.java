package dev.halter.cli.neurons;

import dev.halter.cli.LayerRange;
import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.Ordinal;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.PromptOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.NeuronSearch;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.neurons.Verification;
import dev.halter.text.Tokenizer;
import dev.halter.text.VisibleText;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "neurons",
    description = {
      "Finds neurons by token in a map, or shows the tokens of one neuron.",
      "With --verify it clamps each neuron found and measures what that does to the token."
    })
public final class NeuronsCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--map", paramLabel = "F", required = true, description = "Map to search.")
  Path map;

  @Option(
      names = "--any-model",
      description = "Take the map even if it is of another model with as many tokens.")
  boolean anyModel;

  @ArgGroup(multiplicity = "1")
  Question question;

  /** By token or by neuron. */
  static final class Question {
    @Option(
        names = "--token",
        paramLabel = "T",
        required = true,
        description = "Token, with and without a space before it; several mean one concept.")
    List<String> tokens = new ArrayList<>();

    @Option(names = "--neuron", paramLabel = "L.N", required = true, description = "Neuron.")
    String neuron;
  }

  @Option(
      names = "--top",
      paramLabel = "N",
      defaultValue = "10",
      description = "Rows to show (default: ${DEFAULT-VALUE}).")
  int top;

  @Option(
      names = "--min-probability",
      paramLabel = "X",
      defaultValue = "0",
      description = "Only rows at least so probable (default: ${DEFAULT-VALUE}).")
  double minProbability;

  @Option(names = "--layers", paramLabel = "A[..B]", description = "Only these layers.")
  String layers;

  @ArgGroup(exclusive = false)
  Verify verify;

  /** What --verify needs. */
  static final class Verify {
    @Option(
        names = "--verify",
        required = true,
        description =
            "Clamp each neuron found, and a random one of its layer as a control, all in one batch,"
                + " and put those first that raise the token's probability as the next one most.")
    boolean on;

    @Option(
        names = "--candidates",
        paramLabel = "N",
        description =
            "Neurons to clamp, those first that name the token nearer to the top (default: 64).")
    int candidates = 64;

    @ArgGroup(multiplicity = "1")
    PromptOptions prompt;

    @Option(
        names = "--site",
        paramLabel = "S",
        description =
            "hook_pre, hook_pre_linear or hook_post (default: what the map's projection makes).")
    String site;

    @Option(
        names = "--value",
        paramLabel = "X",
        split = ",",
        description =
            "Value to clamp to, in the direction of the row's sign: -X where it is -; several are"
                + " tried and the best is shown (default: 10,20,40,-10,-20,-40).")
    float[] values = {10, 20, 40, -10, -20, -40};

    @Option(names = "--seed", paramLabel = "N", description = "Picks the controls (default: 0).")
    long seed;
  }

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--top", top);
    if (!(minProbability >= 0 && minProbability <= 1)) {
      throw new WrongUseException("--min-probability is " + minProbability + ", must be 0 to 1");
    }
    NeuronOptions neuron = question.neuron == null ? null : NeuronOptions.parse(question.neuron);
    if (neuron != null && (layers != null || verify != null)) {
      throw new WrongUseException(
          (verify != null ? "--verify" : "--layers") + " goes with --token, not with --neuron");
    }
    if (verify != null) {
      NeuronOptions.requireFinite("--value", verify.values);
      OptionValue.requireAtLeastOne("--candidates", verify.candidates);
    }
    layers(Integer.MAX_VALUE); // wrong use is told before anything is read
    NeuronSearch search = new NeuronSearch(Maps.read(map, options.folder(), anyModel));
    if (verify != null) {
      try (LanguageModel model = options.open()) {
        verify(model, search);
      }
      return 0;
    }
    // No more than names and numbers is needed, so the weights stay on disk.
    try (Tokenizer tokenizer = Tokenizer.load(options.folder())) {
      List<Hit> hits =
          neuron != null
              ? search.byNeuron(neuron.layer(), neuron.neuron(), top).stream()
                  .filter(hit -> hit.probability() >= minProbability)
                  .toList()
              : search.byToken(concept(tokenizer), bounds(search, top));
      print(tokenizer, hits);
      return 0;
    }
  }

  /** The layers asked for; all of the map's if none are. */
  private LayerRange layers(int mapped) {
    if (layers == null) {
      return new LayerRange(0, mapped - 1);
    }
    LayerRange range = LayerRange.parse(layers);
    if (range.last() >= mapped) {
      throw new IllegalArgumentException(
          "no layer %d: the map's layers are 0 to %d".formatted(range.last(), mapped - 1));
    }
    return range;
  }

  private Bounds bounds(NeuronSearch search, int count) {
    LayerRange range = layers(search.map().settings().layers());
    return new Bounds(range.first(), range.last(), minProbability, count);
  }

  private Set<Integer> concept(Tokenizer tokenizer) {
    Set<Integer> tokens = new LinkedHashSet<>();
    question.tokens.forEach(word -> tokens.addAll(tokenizer.tokensOf(word)));
    return tokens;
  }

  private void print(Tokenizer tokenizer, List<Hit> hits) {
    if (output.isJson()) {
      output.print(hits.stream().map(hit -> hit.json(tokenizer::piece)).toList());
      return;
    }
    System.out.printf(
        "%-10s %4s %5s  %-16s %9s %11s%n",
        "neuron", "sign", "rank", "token", "logit", "probability");
    for (Hit hit : hits) {
      System.out.printf(
          "%-10s %4s %5s  %-16s %9.3f %11.4f%n",
          hit.layer() + "." + hit.neuron(),
          hit.sign() > 0 ? "+" : "-",
          Ordinal.of(hit.rank()),
          VisibleText.of(tokenizer.piece(hit.tokenId())),
          hit.logit(),
          hit.probability());
    }
  }

  private void verify(LanguageModel model, NeuronSearch search) {
    Maps.requireNeurons(search.map(), model.config());
    Site.Kind site =
        verify.site == null
            ? search.map().settings().projection().site()
            : NeuronOptions.kind(verify.site);
    Set<Integer> concept = concept(model.tokenizer());
    Verification result =
        Verification.of(
            model.engine(),
            verify.prompt.tokens(model),
            concept,
            search,
            Verification.candidates(search, concept, bounds(search, verify.candidates)),
            site,
            verify.values,
            verify.seed);
    if (output.isJson()) {
      printJson(model, result, site);
    } else {
      printTable(model, result);
    }
  }

  private void printJson(LanguageModel model, Verification result, Site.Kind site) {
    double before = result.before().probability();
    List<Map<String, Object>> rows = new ArrayList<>();
    for (Verification.Trial trial : shown(result)) {
      Map<String, Object> row = trial.hit().json(model.tokenizer()::piece);
      row.put("site", new Site(site, trial.hit().layer()).name());
      row.put("value", trial.best().value());
      row.put("before", before);
      row.put("after", trial.best().effect().probability());
      row.put("change", trial.best().effect().probability() - before);
      row.put("top_token", model.tokenizer().piece(trial.best().effect().topToken()));
      row.put(
          "control",
          Json.object(
              "neuron", trial.control(),
              "value", trial.controlBest().value(),
              "after", trial.controlBest().effect().probability(),
              "change", trial.controlBest().effect().probability() - before));
      rows.add(row);
    }
    output.print(rows);
  }

  private void printTable(LanguageModel model, Verification result) {
    double before = result.before().probability();
    System.out.printf(
        "before: %.4f, the next token is %s%n",
        before, VisibleText.of(model.tokenizer().piece(result.before().topToken())));
    System.out.printf(
        "%-10s %4s %5s  %-14s %8s %8s %8s  %-14s %-10s %8s%n",
        "neuron",
        "sign",
        "rank",
        "token",
        "value",
        "after",
        "change",
        "next token",
        "control",
        "change");
    for (Verification.Trial trial : shown(result)) {
      Hit hit = trial.hit();
      System.out.printf(
          "%-10s %4s %5s  %-14s %8.4g %8.4f %+8.4f  %-14s %-10s %+8.4f%n",
          hit.layer() + "." + hit.neuron(),
          hit.sign() > 0 ? "+" : "-",
          Ordinal.of(hit.rank()),
          VisibleText.of(model.tokenizer().piece(hit.tokenId())),
          trial.best().value(),
          trial.best().effect().probability(),
          trial.best().effect().probability() - before,
          VisibleText.of(model.tokenizer().piece(trial.best().effect().topToken())),
          hit.layer() + "." + trial.control(),
          trial.controlBest().effect().probability() - before);
    }
  }

  private List<Verification.Trial> shown(Verification result) {
    return result.trials().subList(0, Math.min(top, result.trials().size()));
  }
}
