package dev.halter.neurons;

import dev.halter.generation.Alternatives;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse.Effect;
import dev.halter.neurons.Verification.Clamp;
import dev.halter.scoring.Fluency;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;

/**
 * A neuron that decodes to a concept, and the value by which it speaks of it: the one that makes
 * the concept likeliest as the answer's first token while the answer stays a text ({@link
 * Fluency#isCloseTo}).
 *
 * <p>It is clamped at the prompt's last token alone, where the answer's first token is decided:
 * held there, a value may be large and the rest of the answer is still the model's own. On the
 * model that ships, the neuron of dogs at −30 everywhere ends in "it guards dog.", and at −60 at
 * the last token in a whole sentence.
 *
 * @param concept its name
 * @param tokens that stand for the concept
 * @param hit where the map found it
 * @param clamp to hold its up-projection at, and what that does
 * @param before the effect of no clamp
 * @param doses of this neuron that were tried, by value
 * @param isFluent whether the answer under the clamp is a text; false if no clamp that was tried
 *     left one, and then the clamp is the one that makes the concept likeliest
 */
public record ConceptNeuron(
    String concept,
    Set<Integer> tokens,
    NeuronSearch.Hit hit,
    Clamp clamp,
    Effect before,
    List<Clamp> doses,
    boolean isFluent) {

  /**
   * Maps a model and looks for a concept's neuron by what clamping it does to the answer of a
   * question. Blocks for the map and for two batches, of clamps and of answers.
   *
   * @param question of a user, put through the model's chat template
   * @param concept a word that the answer is to begin with, as {@link LanguageModel#tokensOf} takes
   *     it
   * @return empty if no neuron decodes to it
   */
  public static Optional<ConceptNeuron> find(LanguageModel model, String question, String concept) {
    int[] prompt = model.encode(List.of(new Message("user", question)));
    return new Search(model, NeuronMap.of(model), prompt).find(concept, model.tokensOf(concept));
  }

  /** Where it is clamped. */
  public Site site() {
    return site(hit);
  }

  private static Site site(NeuronSearch.Hit hit) {
    return new Site(Site.Kind.PRE_LINEAR, hit.layer());
  }

  /** The plan that holds it at its value. */
  public SteeringPlan plan() {
    return plan(site(), hit.neuron(), clamp.value());
  }

  /** The same clamp of another neuron of its layer, for comparison. */
  public SteeringPlan control(int neuron) {
    return plan(site(), neuron, clamp.value());
  }

  private static SteeringPlan plan(Site site, int neuron, float value) {
    return SteeringPlan.of(Edit.clamp(site, neuron, value)).when(Trigger.LAST);
  }

  /** Whether the clamp makes the concept the greedy answer. */
  public boolean isAnswer() {
    return clamp.effect().rank() == 0;
  }

  /** Looks for the neurons of concepts by what clamping them does at the end of one prompt. */
  public static final class Search {
    private static final float[] VALUES = {-60, -40, -30, -20, -10, 10, 20, 30, 40, 60};
    private static final int CANDIDATES = 8;
    private static final int LIKELY_ANSWERS = 40;
    private static final int READ = 8;
    private static final int LONGEST_ANSWER = 32;

    private final LanguageModel model;
    private final NeuronSearch map;
    private final int[] prompt;

    public Search(LanguageModel model, NeuronMap map, int[] prompt) {
      this.model = model;
      this.map = new NeuronSearch(map);
      this.prompt = prompt;
    }

    /**
     * Clamps neurons that decode to the concept ({@link Verification#candidates}), each to several
     * values, all in one batch, and reads the answers under those that make it likeliest.
     *
     * @return empty if no neuron decodes to it
     */
    public Optional<ConceptNeuron> find(String concept, Set<Integer> tokens) {
      return doses(concept, tokens).flatMap(this::mostFluent);
    }

    /**
     * Of the answers that the model holds for likeliest, but for its very first: the neuron that
     * makes its own likeliest.
     *
     * @return empty if no neuron decodes to one of them
     */
    public Optional<ConceptNeuron> ofLikelyAnswers() {
      return answers().stream()
          .flatMap(token -> doses(model.tokenizer().piece(token).strip(), Set.of(token)).stream())
          .max(Comparator.comparingDouble(tried -> tried.byEffect().getFirst().probability()))
          .flatMap(this::mostFluent);
    }

    /** One clamp of a candidate. */
    private record Dose(NeuronSearch.Hit hit, Clamp clamp) {
      double probability() {
        return clamp.effect().probability();
      }

      SteeringPlan plan() {
        return ConceptNeuron.plan(site(hit), hit.neuron(), clamp.value());
      }
    }

    /** All clamps of a concept's candidates. */
    private record Doses(String concept, Set<Integer> tokens, Effect before, List<Dose> tried) {
      List<Dose> byEffect() {
        return tried.stream()
            .sorted(Comparator.comparingDouble(Dose::probability).reversed())
            .toList();
      }

      ConceptNeuron choose(Dose dose, boolean isFluent) {
        List<Clamp> curve =
            tried.stream().filter(each -> each.hit.equals(dose.hit)).map(Dose::clamp).toList();
        return new ConceptNeuron(concept, tokens, dose.hit, dose.clamp, before, curve, isFluent);
      }
    }

    private Optional<Doses> doses(String concept, Set<Integer> tokens) {
      List<NeuronSearch.Hit> hits =
          Verification.candidates(map, tokens, NeuronSearch.Bounds.top(CANDIDATES));
      if (hits.isEmpty()) {
        return Optional.empty();
      }
      List<SteeringPlan> plans = new ArrayList<>();
      plans.add(SteeringPlan.NONE);
      for (NeuronSearch.Hit hit : hits) {
        for (float value : VALUES) {
          plans.add(ConceptNeuron.plan(site(hit), hit.neuron(), value));
        }
      }
      List<Effect> effects = DoseResponse.of(model.engine(), prompt, tokens, plans);
      List<Dose> tried = new ArrayList<>();
      for (int i = 1; i < plans.size(); i++) {
        float value = VALUES[(i - 1) % VALUES.length];
        tried.add(new Dose(hits.get((i - 1) / VALUES.length), new Clamp(value, effects.get(i))));
      }
      return Optional.of(new Doses(concept, tokens, effects.getFirst(), tried));
    }

    /** Of the clamps that make the concept likeliest, the first that leaves a text. */
    private Optional<ConceptNeuron> mostFluent(Doses doses) {
      List<Dose> best = doses.byEffect().subList(0, Math.min(READ, doses.tried.size()));
      List<Request> requests =
          Stream.concat(Stream.of(SteeringPlan.NONE), best.stream().map(Dose::plan))
              .map(plan -> model.request(prompt).withMaxTokens(LONGEST_ANSWER).with(plan))
              .toList();
      List<int[]> answers =
          model.engine().run(requests).stream().map(result -> result.orThrow().tokens()).toList();
      Fluency unsteered = Fluency.of(model.engine(), prompt, answers.getFirst());
      for (int i = 0; i < best.size(); i++) {
        if (Fluency.of(model.engine(), prompt, answers.get(i + 1)).isCloseTo(unsteered)) {
          return Optional.of(doses.choose(best.get(i), true));
        }
      }
      return Optional.of(doses.choose(best.getFirst(), false));
    }

    private List<Integer> answers() {
      Request request =
          Request.of(prompt)
              .withId("answers")
              .withMaxTokens(1)
              .with(LogProbabilities.top(LIKELY_ANSWERS + 1));
      return model.engine().run(request).orThrow().alternatives().getFirst().likeliest().stream()
          .skip(1)
          .map(Alternatives.Candidate::token)
          .toList();
    }
  }
}
