package dev.halter.steering;

import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.Scope;
import dev.halter.model.Batch;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.model.QueuedEdit;
import dev.halter.model.SteeringTable;
import dev.halter.model.SteeringTable.Placed;
import dev.halter.model.SteeringTable.ReportPlace;
import dev.halter.steering.ConceptRemovals.Together;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Gives each token of a step its steering slot. A slot is a plan together with those of its
 * interventions that act on the token, and those that solve at it; requests with one plan share
 * slots, so the tables grow with distinct plans and not with requests.
 *
 * <p>What a step costs here follows its tokens, not the plans that are known. Slots outlive their
 * requests, since plans come again; when there are many, those go that have not been used longest.
 */
public final class SteeringSlots implements AutoCloseable {
  /** Slots that no open request uses are dropped while there are more than this. */
  private static final int KEEP = 256;

  private final Llama model;
  private final ConceptRemovals removals;
  private final SteeringTable table;
  private final List<Slot> byNumber = new ArrayList<>(); // null where there is none

  /** Plans are told apart by identity: comparing their vectors for every request would cost. */
  private final IdentityHashMap<SteeringPlan, Known> plans = new IdentityHashMap<>();

  private final Set<Known> idle = new LinkedHashSet<>(); // without a request, the longest first

  public SteeringSlots(Llama model) {
    this.model = model;
    this.removals = new ConceptRemovals(model);
    this.table = new SteeringTable(model.device(), model.config().nHeads(), this::removal);
  }

  /**
   * What an intervention does to the tokens of a slot, and where it reports.
   *
   * @param changes whether it changes the token
   * @param solves whether it makes a sparse code of it
   */
  private record Acting(int intervention, boolean changes, boolean solves, ReportPlace place) {}

  /** A slot, in the order of its plan. */
  private record Slot(int number, Known known, List<Acting> acting) {}

  /** A plan that has slots, or an open request. */
  private final class Known {
    final SteeringPlan plan;
    final boolean treatsGenerationAlike;
    final Map<Tokens, Slot> slots = new HashMap<>();
    int requests;

    Known(SteeringPlan plan) {
      this.plan = plan;
      this.treatsGenerationAlike =
          plan.interventions().stream().allMatch(each -> each.trigger().treatsGenerationAlike());
    }

    /** The slot of such tokens. */
    Slot slot(Tokens tokens) {
      Slot known = slots.get(tokens);
      return known == null ? add(tokens.copy()) : known;
    }

    private Slot add(Tokens tokens) {
      List<Edit> edits = new ArrayList<>();
      int[] busy = tokens.busy();
      for (int i : busy) {
        Edit edit = plan.interventions().get(i).edit();
        edits.add(
            edit instanceof RemoveConcepts concepts
                ? new ConceptRemoval.Use(
                    concepts, Together.of(plan, i), tokens.solving.get(i), tokens.changed.get(i))
                : edit);
      }
      int number = placed(edits);
      List<Acting> acting = new ArrayList<>();
      for (int at = 0; at < busy.length; at++) {
        int i = busy[at];
        acting.add(
            new Acting(
                i, tokens.changed.get(i), tokens.solving.get(i), table.places(number).get(at)));
      }
      Slot slot = new Slot(number, this, acting);
      while (byNumber.size() <= number) {
        byNumber.add(null);
      }
      byNumber.set(number, slot);
      slots.put(tokens, slot);
      return slot;
    }
  }

  /**
   * Tokens to which a plan does the same.
   *
   * @param changed interventions that change them
   * @param solving interventions that make a sparse code of them
   */
  private record Tokens(BitSet changed, BitSet solving) {
    Tokens() {
      this(new BitSet(), new BitSet());
    }

    Tokens copy() {
      return new Tokens((BitSet) changed.clone(), (BitSet) solving.clone());
    }

    boolean areLeftAlone() {
      return changed.isEmpty() && solving.isEmpty();
    }

    /** The interventions that have anything to do, in their order. */
    int[] busy() {
      BitSet busy = (BitSet) changed.clone();
      busy.or(solving);
      return busy.stream().toArray();
    }
  }

  /** A request under a plan. */
  public final class Steered implements AutoCloseable {
    private final Known known;
    private final SteeringPlan plan;
    private final int[] prompt;
    private final SteeringReport.Builder report;
    private final Tokens tokens = new Tokens(); // the kind of the one asked for last
    private Tokens lastTokens; // the kind that lastSlot is of
    private int lastSlot;
    private boolean isSettled; // whether all that follows has lastSlot

    private Steered(Known known, int[] prompt) {
      this.known = known;
      this.plan = known.plan;
      this.prompt = prompt;
      this.report = new SteeringReport.Builder(plan);
      for (SteeringPlan.Intervention intervention : plan.interventions()) {
        for (int position : intervention.trigger().beyondPrompt(prompt.length)) {
          report.note(
              "prompt position %d is beyond the prompt of %d tokens: its last token was taken"
                  .formatted(position, prompt.length));
        }
      }
    }

    /** Slots of the sequence's next {@code tokens}, which begin at {@code position}. */
    public int[] slots(int position, int[] tokens) {
      int[] result = new int[tokens.length];
      if (plan.interventions().isEmpty()) {
        return result;
      }
      for (int i = 0; i < tokens.length; i++) {
        result[i] = slot(position + i, tokens[i]);
      }
      return result;
    }

    /** How many leading tokens of the prompt no intervention has anything to do with. */
    public int unsteered() {
      if (plan.interventions().isEmpty()) {
        return prompt.length;
      }
      for (int i = 0; i < prompt.length; i++) {
        look(i, prompt[i]);
        if (!tokens.areLeftAlone()) {
          return i;
        }
      }
      return prompt.length;
    }

    private int slot(int position, int token) {
      if (isSettled) {
        return lastSlot;
      }
      look(position, token);
      if (!tokens.equals(lastTokens)) {
        lastSlot = tokens.areLeftAlone() ? 0 : known.slot(tokens).number;
        lastTokens = tokens.copy();
      }
      isSettled = position >= prompt.length && known.treatsGenerationAlike;
      return lastSlot;
    }

    /** Finds out what is done to a token. */
    private void look(int position, int token) {
      List<SteeringPlan.Intervention> interventions = plan.interventions();
      for (int i = 0; i < interventions.size(); i++) {
        Trigger trigger = interventions.get(i).trigger();
        boolean changed =
            position < prompt.length
                ? trigger.selectsPrompt(position, prompt.length, token)
                : trigger.selectsGenerated(position - prompt.length, token);
        boolean solving = false;
        if (interventions.get(i).edit() instanceof RemoveConcepts edit) {
          // What is solved at the prompt's end changes nothing before that.
          boolean once = edit.coding().when() == RemoveConcepts.Solve.PROMPT_END;
          changed &= !once || position >= prompt.length - 1;
          solving = once ? position == prompt.length - 1 : changed;
        }
        tokens.changed.set(i, changed);
        tokens.solving.set(i, solving);
      }
    }

    /** What the plan did up to now. */
    public SteeringReport report() {
      return report.build();
    }

    @Override
    public void close() {
      if (--known.requests == 0) {
        if (known.slots.isEmpty()) {
          plans.remove(plan);
        } else {
          idle.add(known);
        }
      }
    }
  }

  /**
   * Checks that every intervention of a plan can act in a request.
   *
   * @throws IllegalArgumentException naming one that selects no token of the prompt and none of the
   *     generation, or that {@link #check(SteeringPlan)} refuses
   */
  public void check(SteeringPlan plan, int[] prompt) {
    for (SteeringPlan.Intervention intervention : plan.interventions()) {
      Trigger trigger = intervention.trigger();
      if (!trigger.actsOnGeneration() && !trigger.actsOnPrompt(prompt)) {
        throw new IllegalArgumentException(
            "plan '%s' selects nothing: %s at %s selects none of the prompt's %d tokens"
                .formatted(
                    plan.name(), intervention.op(), intervention.edit().site(), prompt.length));
      }
    }
    check(plan);
  }

  /**
   * Checks that the model can be steered by a plan, whatever the prompt.
   *
   * @throws IllegalArgumentException naming an intervention that names what the model or the
   *     dictionary has not, or that was made for another model
   */
  public void check(SteeringPlan plan) {
    for (SteeringPlan.Intervention intervention : plan.interventions()) {
      try {
        intervention.edit().requireOf(model.config());
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException(
            "plan '%s', %s: %s".formatted(plan.name(), intervention.op(), e.getMessage()), e);
      }
      if (intervention.edit() instanceof Edit.HeadAffine maps
          && !maps.fingerprint().equals(model.fingerprint())) {
        throw new IllegalArgumentException(
            "plan '%s': the file of %s was made for another model: fit one for this model"
                .formatted(plan.name(), intervention.op()));
      }
    }
    for (int i = 0; i < plan.interventions().size(); i++) {
      if (plan.interventions().get(i).edit() instanceof RemoveConcepts removal) {
        ready(plan, Together.of(plan, i)).requireNames(removal);
      }
    }
  }

  /**
   * Loads what an edit needs, so that a file that cannot be used costs its request alone. Where
   * memory is short, what no open request uses makes room.
   */
  private ConceptRemoval ready(SteeringPlan plan, Together together) {
    try {
      return removals.get(together);
    } catch (OutOfDeviceMemoryException first) {
      dropIdle(0);
      try {
        return removals.get(together);
      } catch (OutOfDeviceMemoryException e) {
        throw new IllegalArgumentException(
            "plan '%s': the dictionary %s does not fit beside the model: choose fewer layers, fewer"
                    .formatted(plan.name(), together.coding().dictionary())
                + " atoms or a smaller --context ("
                + e.getMessage()
                + ")",
            e);
      }
    }
  }

  /** Begins a request under a plan that {@link #check} lets pass. */
  public Steered open(SteeringPlan plan, int[] prompt) {
    Known known = plans.computeIfAbsent(plan, Known::new);
    known.requests++;
    idle.remove(known);
    return new Steered(known, prompt);
  }

  /**
   * Before slots of a step are asked for: drops slots of plans that no open request has, if there
   * are many.
   */
  public void beginStep() {
    dropIdle(KEEP);
  }

  /** Drops slots that no open request uses until {@code most} are left; whether any was. */
  private boolean dropIdle(int most) {
    boolean dropped = false;
    boolean removesConcepts = false;
    while (table.size() > most && !idle.isEmpty()) {
      Known known = idle.iterator().next();
      idle.remove(known);
      plans.remove(known.plan);
      for (Slot slot : known.slots.values()) {
        table.remove(slot.number);
        byNumber.set(slot.number, null);
      }
      dropped = true;
      removesConcepts |= !codings(known.plan).isEmpty();
    }
    if (removesConcepts) {
      removals.keep(
          plans.keySet().stream()
              .flatMap(plan -> codings(plan).stream())
              .collect(Collectors.toSet()));
    }
    return dropped;
  }

  private static Set<RemoveConcepts.Coding> codings(SteeringPlan plan) {
    return plan.interventions().stream()
        .map(SteeringPlan.Intervention::edit)
        .filter(RemoveConcepts.class::isInstance)
        .map(edit -> ((RemoveConcepts) edit).coding())
        .collect(Collectors.toSet());
  }

  /** The tables of all slots; null if there is none. */
  public SteeringTable table() {
    return table.size() == 0 ? null : table;
  }

  /** Adds a slot; where memory is short, those that no open request uses make room. */
  private int placed(List<Edit> edits) {
    try {
      return table.add(edits);
    } catch (OutOfDeviceMemoryException e) {
      if (!dropIdle(0)) {
        throw e;
      }
      return table.add(edits);
    }
  }

  /** Removes concepts from the tokens of slots that agree in how. */
  private QueuedEdit removal(Scope scope, int slots, List<Placed> uses) {
    ConceptRemoval.Use first = (ConceptRemoval.Use) uses.getFirst().edit();
    return removals.get(first.together()).of(scope, slots, uses);
  }

  /**
   * After a step: adds what it changed to the reports.
   *
   * @param steered the request of each span, in the order of the batch
   */
  public void report(Batch batch, List<Steered> steered) {
    if (!batch.isSteered()) {
      return;
    }
    float[] changes = model.changes(batch, table);
    int stride = table.reportStride();
    for (int s = 0; s < batch.spans().size(); s++) {
      Batch.Span span = batch.spans().get(s);
      for (int i = 0; i < span.length(); i++) {
        if (span.slots()[i] != 0) {
          Slot slot = byNumber.get(span.slots()[i]);
          report(steered.get(s).report, slot, changes, (span.firstRow() + i) * stride);
        }
      }
    }
  }

  /** Adds what the step changed in one token, reported from {@code row} on. */
  private void report(SteeringReport.Builder report, Slot slot, float[] changes, int row) {
    SteeringPlan plan = slot.known.plan;
    for (Acting acting : slot.acting) {
      int i = acting.intervention;
      int from = row + acting.place.at();
      if (plan.interventions().get(i).edit() instanceof RemoveConcepts) {
        if (acting.solves) {
          ConceptRemoval removal = removals.get(Together.of(plan, i));
          report.solved(i, changes, from, removal::name);
        }
        if (acting.changes) {
          report.removed(i, changes, from);
        }
        continue;
      }
      double squares = 0;
      for (int at = 0; at < acting.place.count(); at++) {
        squares += changes[from + at];
      }
      report.add(i, Math.sqrt(squares));
    }
  }

  @Override
  public void close() {
    model.forget(table);
    table.close();
    removals.close();
  }
}
