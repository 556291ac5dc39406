package dev.halter.neurons;

import dev.halter.generation.Engine;
import dev.halter.model.Site;
import dev.halter.neurons.DoseResponse.Effect;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * What neurons that decode to a concept really do: each is clamped, and the concept's probability
 * as the next token is measured. Beside each stands a control, a random neuron of the same layer
 * that does not decode to the concept, which gets the same clamps; so luck among several values is
 * the same on both sides.
 *
 * <p>Davies (arXiv 2501.02688) shows this for single neurons. The site and the values are not
 * established there; ours are choices. All clamps are rows of one batch.
 *
 * @param before the effect of no clamp
 * @param trials of all candidates, largest rise of the concept's probability first
 */
public record Verification(Effect before, List<Trial> trials) {

  /**
   * A candidate and its control, each clamped to the same values in turn.
   *
   * @param hit the candidate as the map has it
   * @param clamps of the candidate
   * @param control the other neuron, of the same layer
   * @param controlClamps of the control
   */
  public record Trial(Hit hit, List<Clamp> clamps, int control, List<Clamp> controlClamps) {
    /** The clamp of the candidate that raised the concept most, the first of equals. */
    public Clamp best() {
      return largest(clamps);
    }

    /** The clamp of the control that raised the concept most. */
    public Clamp controlBest() {
      return largest(controlClamps);
    }

    private static Clamp largest(List<Clamp> clamps) {
      Clamp best = clamps.getFirst();
      for (Clamp clamp : clamps) {
        best = clamp.effect.probability() > best.effect.probability() ? clamp : best;
      }
      return best;
    }
  }

  /** A value that a neuron was held at, and what that did. */
  public record Clamp(float value, Effect effect) {}

  /**
   * Neurons to try for a concept, within bounds: those first that name it at a lower rank, then the
   * most probable, since a neuron that names a concept first is likelier about it than a sure one.
   */
  public static List<Hit> candidates(NeuronSearch search, Set<Integer> tokens, Bounds bounds) {
    Bounds all =
        new Bounds(
            bounds.firstLayer(), bounds.lastLayer(), bounds.minProbability(), Integer.MAX_VALUE);
    return search.byToken(tokens, all).stream()
        .sorted(Comparator.comparingInt(Hit::rank))
        .limit(bounds.top())
        .toList();
  }

  /**
   * Clamps candidates and controls.
   *
   * @param tokens the concept
   * @param hits candidates out of {@code search}
   * @param values in the direction of the sign that decodes to the concept: a hit of sign −1 is
   *     clamped to −value
   * @param seed of the choice of controls
   */
  public static Verification of(
      Engine engine,
      int[] prompt,
      Set<Integer> tokens,
      NeuronSearch search,
      List<Hit> hits,
      Site.Kind site,
      float[] values,
      long seed) {
    int[] controls = controls(search, tokens, hits, seed);
    List<SteeringPlan> plans = new ArrayList<>();
    plans.add(SteeringPlan.NONE);
    for (int i = 0; i < hits.size(); i++) {
      Site where = new Site(site, hits.get(i).layer());
      float[] signed = signed(values, hits.get(i).sign());
      plans.addAll(DoseResponse.plans(where, hits.get(i).neuron(), signed));
      plans.addAll(DoseResponse.plans(where, controls[i], signed));
    }
    List<Effect> effects = DoseResponse.of(engine, prompt, tokens, plans);
    List<Trial> trials = new ArrayList<>();
    int at = 1;
    for (int i = 0; i < hits.size(); i++) {
      float[] signed = signed(values, hits.get(i).sign());
      List<Clamp> own = clamps(signed, effects.subList(at, at + values.length));
      at += values.length;
      List<Clamp> others = clamps(signed, effects.subList(at, at + values.length));
      at += values.length;
      trials.add(new Trial(hits.get(i), own, controls[i], others));
    }
    trials.sort(
        Comparator.comparingDouble((Trial trial) -> trial.best().effect.probability()).reversed());
    return new Verification(effects.getFirst(), trials);
  }

  private static float[] signed(float[] values, int sign) {
    float[] signed = values.clone();
    for (int i = 0; i < signed.length; i++) {
      signed[i] *= sign;
    }
    return signed;
  }

  private static List<Clamp> clamps(float[] values, List<Effect> effects) {
    List<Clamp> clamps = new ArrayList<>();
    for (int i = 0; i < values.length; i++) {
      clamps.add(new Clamp(values[i], effects.get(i)));
    }
    return clamps;
  }

  /** For each hit a random neuron of its layer that does not decode to the concept. */
  private static int[] controls(
      NeuronSearch search, Set<Integer> tokens, List<Hit> hits, long seed) {
    record Neuron(int layer, int neuron) {}

    Set<Neuron> concept = new HashSet<>();
    for (Hit hit : search.byToken(tokens, Bounds.NONE)) {
      concept.add(new Neuron(hit.layer(), hit.neuron()));
    }
    SplittableRandom random = new SplittableRandom(seed);
    return hits.stream()
        .mapToInt(
            hit -> {
              int[] others =
                  IntStream.range(0, search.map().settings().neurons())
                      .filter(neuron -> !concept.contains(new Neuron(hit.layer(), neuron)))
                      .toArray();
              if (others.length == 0) {
                throw new IllegalArgumentException(
                    "every neuron of layer %d decodes to the concept: none is left as a control;"
                            .formatted(hit.layer())
                        + " make the map with fewer tokens (halter map --top)");
              }
              return others[random.nextInt(others.length)];
            })
        .toArray();
  }
}
