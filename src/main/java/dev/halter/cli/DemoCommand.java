package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.neurons.ConceptNeuron;
import dev.halter.neurons.DoseResponse;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.Verification.Clamp;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import dev.halter.text.VisibleText;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "demo",
    description = {
      "Steers a model by one neuron, end to end.",
      "Maps every neuron of the model to tokens, finds the one that speaks of a concept, clamps it",
      "where the question ends, and shows what the model answers before and after."
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
  private static final int MAX_TOKENS = 32;

  /** Characters that stand for a probability of 1. */
  private static final int BAR = 40;

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
      report(
          model,
          neurons,
          seconds,
          prompt,
          choose(model, new ConceptNeuron.Search(model, map, prompt)));
      return 0;
    }
  }

  /** The neuron of the concept asked for; or of the default one if that becomes the answer. */
  private ConceptNeuron choose(LanguageModel model, ConceptNeuron.Search search) {
    if (concept != null) {
      return search.find(concept, model.tokensOf(concept)).orElseThrow(() -> noNeuron(concept));
    }
    Optional<ConceptNeuron> usual =
        isToken(model, CONCEPT) ? search.find(CONCEPT, model.tokensOf(CONCEPT)) : Optional.empty();
    if (usual.filter(ConceptNeuron::isAnswer).isPresent()) {
      return usual.get();
    }
    Optional<ConceptNeuron> likely = search.ofLikelyAnswers();
    return Stream.of(usual, likely)
        .flatMap(Optional::stream)
        .max(Comparator.comparingDouble(neuron -> neuron.clamp().effect().probability()))
        .orElseThrow(() -> noNeuron(CONCEPT));
  }

  private static IllegalArgumentException noNeuron(String concept) {
    return new IllegalArgumentException(
        "no neuron has '" + concept + "' among its top tokens: try another --concept");
  }

  private static boolean isToken(LanguageModel model, String word) {
    return model.tokenizer().encode(" " + word, false).length == 1;
  }

  private void report(
      LanguageModel model, int neurons, double seconds, int[] prompt, ConceptNeuron best) {
    int dMlp = model.config().dMlp();
    int neuron = best.hit().neuron();
    // A control of equal strength: the neuron half a layer away.
    int other = (neuron + dMlp / 2) % dMlp;
    List<SteeringPlan> plans = List.of(SteeringPlan.NONE, best.plan(), best.control(other));
    DoseResponse.Effect control =
        DoseResponse.of(model.engine(), prompt, best.tokens(), List.of(best.control(other)))
            .getFirst();
    List<DoseResponse.Effect> effects = List.of(best.before(), best.clamp().effect(), control);
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
              "concept", best.concept(),
              "layer", best.hit().layer(),
              "neuron", neuron,
              "site", best.site().name(),
              "value", best.clamp().value(),
              "before", answers.get(0),
              "after", answers.get(1),
              "control", answers.get(2),
              "doses", best.doses().stream().map(DemoCommand::dose).toList(),
              "fluent", best.isFluent(),
              "plan", plan(best)));
      return;
    }
    System.out.printf("device   %s%n", device);
    System.out.printf(
        "map      %,d neurons decoded through the LM head in %.2f s%n", neurons, seconds);
    System.out.printf(
        "neuron   %d.%d: %s is the %s of the tokens that its up-projection row (%s) decodes to%n",
        best.hit().layer(),
        neuron,
        VisibleText.of(model.tokenizer().piece(best.hit().tokenId())),
        Ordinal.of(best.hit().rank()),
        best.hit().sign() > 0 ? "+" : "-");
    printDoses(best);
    System.out.printf("plan     %s%n", Json.text(plan(best)));
    if (!best.isFluent()) {
      System.out.printf("         (no value that was tried leaves a fluent answer)%n");
    }
    System.out.printf("%n%s%n", question);
    String[] names = {"before", "after", "control"};
    for (int i = 0; i < names.length; i++) {
      System.out.printf(
          "  %-8s %-60s p(%s) = %.3f%n",
          names[i], answers.get(i).get("text"), best.concept(), effects.get(i).probability());
    }
    System.out.printf(
        "  control is the same clamp of neuron %d.%d, half a layer away%n",
        best.hit().layer(), other);
    System.out.printf(
        "%n%d tokens for %d requests with %d plans in one batch: %,.0f tokens/s%n",
        count, plans.size(), plans.size(), count / generated);
  }

  private static Map<String, Object> dose(Clamp clamp) {
    return Json.object("value", clamp.value(), "probability", clamp.effect().probability());
  }

  /** The plan as a file for --plan. */
  private static Map<String, Object> plan(ConceptNeuron best) {
    return Json.object(
        "interventions",
        List.of(
            Json.object(
                "op", "neuron_clamp",
                "site", best.site().name(),
                "neurons", List.of(best.hit().neuron()),
                "value", best.clamp().value(),
                "when", Json.object("prompt_positions", List.of(-1)))));
  }

  /** A bar for each value that the neuron was held at, and one for the model as it is. */
  private static void printDoses(ConceptNeuron best) {
    System.out.printf(
        "dose     p(%s) as the answer's first token, the neuron held where the question ends at%n",
        best.concept());
    boolean isPrinted = false;
    for (Clamp dose : best.doses()) {
      if (!isPrinted && dose.value() > 0) {
        printDose("as it is", best.before().probability(), "");
        isPrinted = true;
      }
      String mark = dose.equals(best.clamp()) ? "  <- the plan" : "";
      printDose("%.0f".formatted(dose.value()), dose.effect().probability(), mark);
    }
  }

  private static void printDose(String value, double probability, String mark) {
    int eighths = (int) Math.round(8 * BAR * probability);
    String part = eighths % 8 == 0 ? "" : Character.toString(0x2590 - eighths % 8);
    String bar = "\u2588".repeat(eighths / 8) + part;
    System.out.printf("%17s  %.3f %s%s%n", value, probability, bar, mark);
  }
}
