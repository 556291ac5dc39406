package dev.halter.neurons;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * A neuron that decodes to a concept, and the value by which it speaks of it.
 *
 * @param concept its name
 * @param tokens that stand for the concept
 * @param hit where the map found it
 * @param value to clamp its up-projection to
 * @param effect of that on the concept as the answer's first token
 */
public record ConceptNeuron(
    String concept,
    Set<Integer> tokens,
    NeuronSearch.Hit hit,
    float value,
    DoseResponse.Effect effect) {

  /** Where it is clamped. */
  public Site site() {
    return new Site(Site.Kind.PRE_LINEAR, hit.layer());
  }

  /** Whether the clamp makes the concept the greedy answer. */
  public boolean isAnswer() {
    return effect.rank() == 0;
  }

  private boolean isBetterThan(ConceptNeuron other) {
    if (isAnswer() != other.isAnswer()) {
      return isAnswer();
    }
    if (isAnswer() && Math.abs(value) != Math.abs(other.value)) {
      return Math.abs(value) < Math.abs(other.value);
    }
    return effect.probability() > other.effect.probability();
  }

  /** Looks for the neurons of concepts by what clamping them does at the end of one prompt. */
  public static final class Search {
    private static final float[] VALUES = {10, 20, 30, 40, 60, -10, -20, -30, -40, -60};
    private static final int CANDIDATES = 8;
    private static final int ANSWERS = 40;

    private final LanguageModel model;
    private final NeuronSearch map;
    private final int[] prompt;

    public Search(LanguageModel model, NeuronMap map, int[] prompt) {
      this.model = model;
      this.map = new NeuronSearch(map);
      this.prompt = prompt;
    }

    /**
     * Clamps every neuron that decodes to the concept, each to several values, all in one batch,
     * and takes the smallest value that makes it the answer, so that the rest of the text stays a
     * text; if none does, the one that raises it most.
     *
     * @return empty if no neuron decodes to it
     */
    public Optional<ConceptNeuron> find(String concept, Set<Integer> tokens) {
      // Neurons that name the concept first go before those that name it among others.
      List<NeuronSearch.Hit> hits =
          map.byToken(tokens, NeuronSearch.Bounds.NONE).stream()
              .sorted(Comparator.comparing(hit -> hit.rank() > 0))
              .limit(CANDIDATES)
              .toList();
      List<SteeringPlan> plans = new ArrayList<>();
      for (NeuronSearch.Hit hit : hits) {
        Site site = new Site(Site.Kind.PRE_LINEAR, hit.layer());
        plans.addAll(DoseResponse.plans(site, hit.neuron(), VALUES));
      }
      List<DoseResponse.Effect> effects = DoseResponse.of(model.engine(), prompt, tokens, plans);
      ConceptNeuron best = null;
      for (int i = 0; i < plans.size(); i++) {
        ConceptNeuron candidate =
            new ConceptNeuron(
                concept,
                tokens,
                hits.get(i / VALUES.length),
                VALUES[i % VALUES.length],
                effects.get(i));
        best = best == null || candidate.isBetterThan(best) ? candidate : best;
      }
      return Optional.ofNullable(best);
    }

    /**
     * Of the answers that the model holds for likeliest, but for its very first: the neuron that
     * raises its own most.
     *
     * @return empty if no neuron decodes to one of them
     */
    public Optional<ConceptNeuron> ofLikelyAnswers() {
      return answers().stream()
          .flatMap(token -> find(model.tokenizer().piece(token).strip(), Set.of(token)).stream())
          .reduce(
              (best, next) -> next.effect.probability() > best.effect.probability() ? next : best);
    }

    private List<Integer> answers() {
      List<Integer> answers = new ArrayList<>();
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
                            .forEach(answers::add);
                      }))
          .orThrow();
      return answers;
    }
  }
}
