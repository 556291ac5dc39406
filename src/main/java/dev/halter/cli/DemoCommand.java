package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "demo",
    description = {
      "Steers a model by one neuron, end to end.",
      "Maps every neuron of the model to tokens, finds the one that speaks of a concept, clamps it,",
      "and shows what the model answers before and after."
    })
final class DemoCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--concept",
      paramLabel = "T",
      description =
          "What to make the favourite (default: dog, or else the clearest of the answers).")
  String concept;

  @Option(
      names = "--ask",
      paramLabel = "T",
      defaultValue = "What is your favourite animal?",
      description = "The question (default: ${DEFAULT-VALUE}).")
  String question;

  @Mixin OutputOptions output;

  private static final String CONCEPT = "dog";
  private static final float[] VALUES = {10, 20, 30, 40, 60, -10, -20, -30, -40, -60};
  private static final int CANDIDATES = 8;
  private static final int ANSWERS = 40;
  private static final int MAX_TOKENS = 32;

  /** A word that is one token of the model. */
  private record Concept(String name, Set<Integer> tokens) {}

  /** A neuron that decodes to a concept, and what clamping it to a value does. */
  private record Candidate(
      Concept concept, NeuronSearch.Hit hit, float value, DoseResponse.Effect effect) {
    boolean isAnswer() {
      return effect.rank() == 0;
    }

    boolean isBetterThan(Candidate other) {
      if (isAnswer() != other.isAnswer()) {
        return isAnswer();
      }
      if (isAnswer() && Math.abs(value) != Math.abs(other.value)) {
        return Math.abs(value) < Math.abs(other.value);
      }
      return effect.probability() > other.effect.probability();
    }
  }

  @Override
  public Integer call() {
    try (LanguageModel model = options.open()) {
      long start = System.nanoTime();
      int neurons = model.config().nLayers() * model.config().dMlp();
      NeuronMap map;
      try (ProgressBar bar = new ProgressBar("map", neurons)) {
        map = NeuronMap.of(model, bar::at);
      }
      double seconds = (System.nanoTime() - start) / 1e9;
      int[] prompt = model.encode(List.of(new Message("user", question)));
      NeuronSearch search = map.search();
      report(model, neurons, seconds, prompt, choose(model, search, prompt));
      return 0;
    }
  }

  /** The neuron of the concept asked for; or of the default one if that becomes the answer. */
  private Candidate choose(LanguageModel model, NeuronSearch search, int[] prompt) {
    String name = concept == null ? CONCEPT : concept;
    Candidate best = null;
    if (concept != null || isToken(model, name)) {
      best = best(model, search, prompt, new Concept(name, model.tokensOf(name)));
    }
    if (concept == null && (best == null || !best.isAnswer())) {
      for (Concept answer : answers(model, prompt)) {
        Candidate other = best(model, search, prompt, answer);
        if (other != null
            && (best == null || other.effect.probability() > best.effect.probability())) {
          best = other;
        }
      }
    }
    if (best == null) {
      throw new IllegalArgumentException(
          "no neuron has '" + name + "' among its top tokens: try another --concept");
    }
    return best;
  }

  private static boolean isToken(LanguageModel model, String word) {
    return model.tokenizer().encode(" " + word, false).length == 1;
  }

  /** The most probable first tokens of the unsteered answer, but for the very first. */
  private static List<Concept> answers(LanguageModel model, int[] prompt) {
    List<Concept> concepts = new ArrayList<>();
    model
        .engine()
        .run(
            Request.of(prompt)
                .withId("answers")
                .withMaxTokens(1)
                .with(
                    (token, p, logits) -> {
                      float[] row = logits.get();
                      IntStream.range(0, row.length)
                          .filter(id -> id != token)
                          .boxed()
                          .sorted(Comparator.comparingDouble(id -> -row[id]))
                          .limit(ANSWERS)
                          .forEach(
                              id ->
                                  concepts.add(
                                      new Concept(
                                          model.tokenizer().piece(id).strip(), Set.of(id))));
                    }))
        .orThrow();
    return concepts;
  }

  /**
   * Clamps every neuron that decodes to the concept, each to several values, all in one batch, and
   * takes the smallest value that makes it the answer, so that the rest of the text stays a text;
   * if none does, the one that raises it most; null if no neuron decodes to it.
   */
  private static Candidate best(
      LanguageModel model, NeuronSearch search, int[] prompt, Concept concept) {
    // Neurons that name the concept first go before those that name it among others.
    List<NeuronSearch.Hit> hits =
        search.byToken(concept.tokens, NeuronSearch.Bounds.NONE).stream()
            .sorted(Comparator.comparing(hit -> hit.rank() > 0))
            .limit(CANDIDATES)
            .toList();
    List<SteeringPlan> plans = new ArrayList<>();
    for (NeuronSearch.Hit hit : hits) {
      plans.addAll(DoseResponse.plans(site(hit.layer()), hit.neuron(), VALUES));
    }
    List<DoseResponse.Effect> effects =
        DoseResponse.of(model.engine(), prompt, concept.tokens, plans);
    Candidate best = null;
    for (int i = 0; i < plans.size(); i++) {
      float value = VALUES[i % VALUES.length];
      var candidate = new Candidate(concept, hits.get(i / VALUES.length), value, effects.get(i));
      best = best == null || candidate.isBetterThan(best) ? candidate : best;
    }
    return best;
  }

  private static Site site(int layer) {
    return new Site(Site.Kind.PRE_LINEAR, layer);
  }

  private void report(
      LanguageModel model, int neurons, double seconds, int[] prompt, Candidate best) {
    String concept = best.concept.name;
    int layer = best.hit.layer();
    int neuron = best.hit.neuron();
    // A control of equal strength: the neuron half a layer away.
    int other = (neuron + model.config().dMlp() / 2) % model.config().dMlp();
    List<SteeringPlan> plans =
        List.of(
            SteeringPlan.NONE,
            SteeringPlan.of(Edit.clamp(site(layer), neuron, best.value)),
            SteeringPlan.of(Edit.clamp(site(layer), other, best.value)));
    List<DoseResponse.Effect> effects =
        DoseResponse.of(model.engine(), prompt, best.concept.tokens, plans);
    List<Request> requests = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      requests.add(model.request(prompt).withMaxTokens(MAX_TOKENS).with(plan));
    }
    long start = System.nanoTime();
    List<Answer> generations = model.generate(requests);
    double generated = (System.nanoTime() - start) / 1e9;
    List<Map<String, Object>> answers = new ArrayList<>();
    int count = 0;
    for (int i = 0; i < plans.size(); i++) {
      Answer generation = generations.get(i);
      count += generation.result().tokens().length;
      answers.add(
          Json.object(
              "text", generation.text().strip(),
              "probability", effects.get(i).probability()));
    }
    answers.get(2).put("neuron", other);
    String device = model.device().description();
    if (output.isJson()) {
      output.print(
          Json.object(
              "device", device,
              "neurons", neurons,
              "map_seconds", seconds,
              "concept", concept,
              "layer", layer,
              "neuron", neuron,
              "site", site(layer).name(),
              "value", best.value,
              "before", answers.get(0),
              "after", answers.get(1),
              "control", answers.get(2)));
      return;
    }
    System.out.printf("device   %s%n", device);
    System.out.printf(
        "map      %,d neurons decoded through the LM head in %.2f s%n", neurons, seconds);
    System.out.printf(
        "neuron   %d.%d: '%s' is the %s of the tokens that its up-projection row (%s) decodes to%n",
        layer,
        neuron,
        model.tokenizer().piece(best.hit.tokenId()),
        Ordinal.of(best.hit.rank()),
        best.hit.sign() > 0 ? "+" : "-");
    System.out.printf("plan     clamp %s to %.0f%n", site(layer), best.value);
    System.out.printf("%n%s%n", question);
    String[] names = {"before", "after", "control"};
    for (int i = 0; i < 3; i++) {
      System.out.printf(
          "  %-8s %-60s p(%s) = %.3f%n",
          names[i], answers.get(i).get("text"), concept, effects.get(i).probability());
    }
    System.out.printf(
        "%n%d tokens for 3 requests with 3 plans in one batch: %,.0f tokens/s%n",
        count, count / generated);
  }
}
