package dev.halter.steering;

import java.util.ArrayList;
import java.util.List;

/**
 * What a request's plan really did.
 *
 * @param interventions in the order of the plan
 * @param notes what a user may not expect, such as a position beyond the prompt's end
 */
public record SteeringReport(List<Entry> interventions, List<String> notes) {
  /** The report of a request without a plan. */
  public static final SteeringReport NONE = new SteeringReport(List.of(), List.of());

  /**
   * One intervention.
   *
   * @param site TransformerLens name
   * @param tokens number of tokens edited
   * @param meanChange mean L2 norm of the change over these tokens, on the scale of the site; 0
   *     when no token was edited
   */
  public record Entry(String op, String site, int tokens, double meanChange) {}

  /** Collects a report token by token. */
  static final class Builder {
    private final SteeringPlan plan;
    private final int[] tokens;
    private final double[] change;
    private final List<String> notes = new ArrayList<>();

    Builder(SteeringPlan plan) {
      this.plan = plan;
      this.tokens = new int[plan.interventions().size()];
      this.change = new double[plan.interventions().size()];
    }

    void note(String note) {
      notes.add(note);
    }

    void add(int intervention, double norm) {
      tokens[intervention]++;
      change[intervention] += norm;
    }

    SteeringReport build() {
      List<Entry> entries = new ArrayList<>();
      List<String> all = new ArrayList<>(notes);
      for (int i = 0; i < tokens.length; i++) {
        SteeringPlan.Intervention intervention = plan.interventions().get(i);
        String site = intervention.edit().site().name();
        double mean = tokens[i] == 0 ? 0 : change[i] / tokens[i];
        entries.add(new Entry(intervention.op(), site, tokens[i], mean));
        if (tokens[i] == 0) {
          all.add(intervention.op() + " at " + site + " met no token that its \"when\" selects");
        }
      }
      return new SteeringReport(entries, all);
    }
  }
}
