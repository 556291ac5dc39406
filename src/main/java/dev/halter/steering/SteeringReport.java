package dev.halter.steering;

import static dev.halter.files.Json.object;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

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
   * @param concepts what {@code remove_concepts} found, null for other operations
   */
  public record Entry(String op, String site, int tokens, double meanChange, Concepts concepts) {}

  /**
   * Sparse codes of a removal.
   *
   * @param solved tokens of which a code was made
   * @param meanRemoved mean number of atoms removed
   * @param removed the atoms: of each token the eight of largest coefficients are counted; those of
   *     most tokens first
   * @param meanIterations mean number of the solver's rounds
   * @param worstKkt largest violation of the solver's optimality conditions, see {@link
   *     dev.halter.sparse.Code}
   */
  public record Concepts(
      int solved,
      double meanRemoved,
      List<Removed> removed,
      double meanIterations,
      double worstKkt) {}

  /**
   * An atom that was removed.
   *
   * @param tokens in whose codes it was
   * @param meanCoefficient over these tokens, on the scale of the site and for a unit atom
   */
  public record Removed(String name, int tokens, double meanCoefficient) {}

  /** As JSON, by the keys that answers of commands and of the server have. */
  public Map<String, Object> json() {
    List<Object> rows = new ArrayList<>();
    for (Entry entry : interventions) {
      Map<String, Object> row =
          object(
              "op", entry.op(),
              "site", entry.site(),
              "tokens", entry.tokens(),
              "mean_change", entry.meanChange());
      if (entry.concepts() != null) {
        row.put("concepts", json(entry.concepts()));
      }
      rows.add(row);
    }
    return object("interventions", rows, "notes", notes);
  }

  private static Map<String, Object> json(Concepts concepts) {
    List<Object> removed = new ArrayList<>();
    for (Removed atom : concepts.removed()) {
      removed.add(
          object(
              "concept", atom.name(),
              "tokens", atom.tokens(),
              "mean_coefficient", atom.meanCoefficient()));
    }
    return object(
        "solved", concepts.solved(),
        "mean_removed", concepts.meanRemoved(),
        "removed", removed,
        "mean_iterations", concepts.meanIterations(),
        "worst_kkt", concepts.worstKkt());
  }

  /** A removal that changes less than this share of what was there has found next to nothing. */
  private static final double NOTHING = 0.01;

  /** Collects what a plan's interventions did. */
  static final class Builder {
    private final SteeringPlan plan;
    private final int[] tokens;
    private final double[] change;
    private final double[] before; // norms that removals found
    private final Codes[] codes;
    private final List<String> notes;

    Builder(SteeringPlan plan, List<String> notes) {
      this.plan = plan;
      this.notes = notes;
      this.tokens = new int[plan.interventions().size()];
      this.change = new double[plan.interventions().size()];
      this.before = new double[plan.interventions().size()];
      this.codes = new Codes[plan.interventions().size()];
      for (int i = 0; i < codes.length; i++) {
        codes[i] =
            plan.interventions().get(i).edit() instanceof RemoveConcepts ? new Codes() : null;
      }
    }

    /** Tokens that an intervention edited. */
    void tokens(int intervention, int count) {
      tokens[intervention] += count;
    }

    /** Norms of what it changed, summed. */
    void change(int intervention, double norms) {
      change[intervention] += norms;
    }

    /** Norms of what a removal found, summed. */
    void before(int intervention, double norms) {
      before[intervention] += norms;
    }

    /** Codes that a removal made. */
    void codes(int intervention, Codes more) {
      codes[intervention].add(more);
    }

    SteeringReport build() {
      List<Entry> entries = new ArrayList<>();
      List<String> toldNotes = new ArrayList<>(notes);
      for (int i = 0; i < tokens.length; i++) {
        SteeringPlan.Intervention intervention = plan.interventions().get(i);
        String site = intervention.edit().site().name();
        double mean = tokens[i] == 0 ? 0 : change[i] / tokens[i];
        Concepts concepts = codes[i] == null ? null : codes[i].told();
        entries.add(new Entry(intervention.op(), site, tokens[i], mean, concepts));
        if (tokens[i] == 0) {
          toldNotes.add(
              intervention.op() + " at " + site + " met no token that its \"when\" selects");
        } else if (intervention.edit() instanceof RemoveConcepts edit
            && edit.strength() != 0
            && change[i] < NOTHING * before[i]) {
          toldNotes.add(
              ("%s at %s changed next to nothing: %.2g of a norm of %.3g: the concepts are not there,"
                      + " or the dictionary is of texts unlike this prompt or of another layer")
                  .formatted(intervention.op(), site, mean, before[i] / tokens[i]));
        }
      }
      return new SteeringReport(entries, toldNotes);
    }
  }
}
