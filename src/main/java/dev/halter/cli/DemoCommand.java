package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "demo",
    description = {
      "The main job, end to end: maps every neuron of the model to tokens, finds the one that",
      "speaks of a concept, clamps it, and shows what the model answers before and after."
    })
final class DemoCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--concept",
      paramLabel = "T",
      defaultValue = "dog",
      description = "What to make the favourite (default: ${DEFAULT-VALUE}).")
  String concept;

  @Option(
      names = "--ask",
      paramLabel = "T",
      defaultValue = "What is your favourite animal?",
      description = "The question (default: ${DEFAULT-VALUE}).")
  String question;

  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  private static final float[] VALUES = {20, 40, 60, -20, -40, -60};
  private static final int CANDIDATES = 16;
  private static final int MAX_TOKENS = 32;

  /** A neuron, a value to clamp it to, and the concept's probability under that plan. */
  private record Candidate(NeuronSearch.Hit hit, float value, double probability) {}

  @Override
  public Integer call() {
    try (LanguageModel model = options.open()) {
      long start = System.nanoTime();
      int neurons = model.config().nLayers() * model.config().dMlp();
      NeuronMap map;
      try (ProgressBar bar = new ProgressBar("map", neurons)) {
        map =
            NeuronMap.of(
                model.llama(),
                NeuronMap.Projection.UP,
                NeuronMap.Decode.RAW,
                NeuronMap.Sign.BOTH,
                10,
                bar::at);
      }
      double seconds = (System.nanoTime() - start) / 1e9;
      Set<Integer> tokens = model.tokensOf(concept);
      int[] prompt = model.encode(List.of(new Message("user", question)));
      Candidate best = best(model, map, tokens, prompt);
      report(model, neurons, seconds, tokens, prompt, best);
      return 0;
    }
  }

  /** Clamps every neuron that decodes to the concept, each to several values, in one batch. */
  private Candidate best(LanguageModel model, NeuronMap map, Set<Integer> tokens, int[] prompt) {
    List<NeuronSearch.Hit> hits = NeuronSearch.byToken(map, tokens, CANDIDATES);
    if (hits.isEmpty()) {
      throw new IllegalArgumentException(
          "no neuron has '" + concept + "' among its top tokens: try another --concept");
    }
    List<SteeringPlan> plans = new ArrayList<>();
    for (NeuronSearch.Hit hit : hits) {
      plans.addAll(DoseResponse.plans(site(hit.layer()), hit.neuron(), VALUES));
    }
    List<DoseResponse.Effect> effects = DoseResponse.of(model.engine(), prompt, tokens, plans);
    Candidate best = null;
    for (int i = 0; i < plans.size(); i++) {
      double probability = effects.get(i).probability();
      if (best == null || probability > best.probability) {
        best = new Candidate(hits.get(i / VALUES.length), VALUES[i % VALUES.length], probability);
      }
    }
    return best;
  }

  private static Site site(int layer) {
    return new Site(Site.Kind.PRE_LINEAR, layer);
  }

  private void report(
      LanguageModel model,
      int neurons,
      double seconds,
      Set<Integer> tokens,
      int[] prompt,
      Candidate best) {
    int layer = best.hit.layer();
    int neuron = best.hit.neuron();
    // A control of equal strength: the neuron half a layer away.
    int other = (neuron + model.config().dMlp() / 2) % model.config().dMlp();
    List<SteeringPlan> plans =
        List.of(
            SteeringPlan.NONE,
            SteeringPlan.clamp(site(layer), neuron, best.value),
            SteeringPlan.clamp(site(layer), other, best.value));
    List<DoseResponse.Effect> effects = DoseResponse.of(model.engine(), prompt, tokens, plans);
    List<Request> requests = new ArrayList<>();
    for (SteeringPlan plan : plans) {
      requests.add(Request.greedy(plan.name(), prompt, MAX_TOKENS, model.stopTokens()).with(plan));
    }
    long start = System.nanoTime();
    List<Result> results = model.engine().run(requests);
    double generated = (System.nanoTime() - start) / 1e9;
    List<Map<String, Object>> answers = new ArrayList<>();
    int count = 0;
    for (int i = 0; i < plans.size(); i++) {
      Result result = results.get(i).orThrow();
      count += result.tokens().length;
      answers.add(
          Json.object(
              "text", model.decode(result.tokens()).strip(),
              "probability", effects.get(i).probability()));
    }
    answers.get(2).put("neuron", other);
    String device = model.device().description();
    if (json) {
      Json.print(
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
        "neuron   %d.%d: its up-projection row (sign %s) decodes to '%s' with probability %.3f%n",
        layer,
        neuron,
        best.hit.sign() > 0 ? "+" : "-",
        model.tokenizer().piece(best.hit.tokenId()),
        best.hit.probability());
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
