package dev.halter.heads;

import dev.halter.model.Head;
import dev.halter.steering.HeadControl;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Controls of several tasks as one: their heads united. That this keeps what each control gives,
 * because tasks' heads hardly overlap, is the claim of Sparse Activation Control (arXiv
 * 2411.02461); what it does with a head of two tasks could not be read, both ways here are our
 * inference.
 *
 * @param control all maps
 * @param owners for each head the parts, by index, whose maps it has
 * @param contested heads that several parts have
 */
public record JointControl(
    HeadControl control, Map<Head, List<Integer>> owners, List<Head> contested) {

  /** What becomes of a head that several parts have. */
  public enum Contested {
    /** It has the map of the part in which its effect is largest. */
    LARGER_EFFECT,
    /** It has all maps, one after the other. */
    COMPOSE
  }

  /**
   * A task's control.
   *
   * @param strength that its maps act with
   * @param effects of heads on the task, by layer and head: changes relative to the task's own
   *     logit, so that tasks can be compared
   */
  public record Part(HeadControl control, float strength, double[][] effects) {
    /** Its heads. */
    public List<Head> heads() {
      return control.heads();
    }

    private double effect(Head head) {
      double effect = Math.abs(effects[head.layer()][head.head()]);
      return Double.isNaN(effect) ? 0 : effect;
    }
  }

  /**
   * Share of heads that two parts have in common, of as many as the smaller has: |A ∩ B| / k where
   * both have k.
   */
  public static double overlap(Part a, Part b) {
    long common = a.heads().stream().filter(b.heads()::contains).count();
    return (double) common / Math.min(a.heads().size(), b.heads().size());
  }

  /**
   * Unites controls of one model.
   *
   * @throws IllegalArgumentException if they are of different models
   */
  public static JointControl of(List<Part> parts, Contested contested) {
    Map<Head, List<Integer>> owners = new LinkedHashMap<>();
    List<HeadControl> controls = new ArrayList<>();
    for (int i = 0; i < parts.size(); i++) {
      Part part = parts.get(i);
      if (!part.control.fingerprint().equals(parts.getFirst().control.fingerprint())) {
        throw new IllegalArgumentException("the controls were made for different models");
      }
      controls.add(part.control.at(part.strength));
      for (Head head : part.heads()) {
        owners.computeIfAbsent(head, h -> new ArrayList<>()).add(i);
      }
    }
    List<Head> shared = owners.keySet().stream().filter(h -> owners.get(h).size() > 1).toList();
    if (contested == Contested.LARGER_EFFECT) {
      owners.replaceAll((head, contenders) -> List.of(strongest(parts, contenders, head)));
    }
    int d = controls.getFirst().dHead();
    float[] a = new float[owners.size() * d * d];
    float[] b = new float[owners.size() * d];
    List<Head> heads = List.copyOf(owners.keySet());
    for (int i = 0; i < heads.size(); i++) {
      List<Head> head = List.of(heads.get(i));
      List<Integer> ofHead = owners.get(heads.get(i));
      HeadControl map = controls.get(ofHead.getFirst()).only(head);
      for (int next : ofHead.subList(1, ofHead.size())) {
        map = composed(map, controls.get(next).only(head));
      }
      System.arraycopy(map.a(), 0, a, i * d * d, d * d);
      System.arraycopy(map.b(), 0, b, i * d, d);
    }
    Map<String, String> facts = new HashMap<>(Map.of("controls", Integer.toString(parts.size())));
    String fingerprint = parts.getFirst().control.fingerprint();
    return new JointControl(new HeadControl(fingerprint, facts, heads, a, b), owners, shared);
  }

  /** The part of the largest effect; the first of those as large. */
  private static int strongest(List<Part> parts, List<Integer> candidates, Head head) {
    int best = candidates.getFirst();
    for (int candidate : candidates) {
      best = parts.get(candidate).effect(head) > parts.get(best).effect(head) ? candidate : best;
    }
    return best;
  }

  /** z → second(first(z)), each of one head. */
  private static HeadControl composed(HeadControl first, HeadControl second) {
    int d = first.dHead();
    float[] a = new float[d * d];
    float[] b = Arrays.copyOf(second.b(), d);
    for (int row = 0; row < d; row++) {
      for (int inner = 0; inner < d; inner++) {
        float factor = second.a()[row * d + inner];
        b[row] += factor * first.b()[inner];
        for (int column = 0; column < d; column++) {
          a[row * d + column] += factor * first.a()[inner * d + column];
        }
      }
    }
    return new HeadControl(first.fingerprint(), first.facts(), first.heads(), a, b);
  }
}
