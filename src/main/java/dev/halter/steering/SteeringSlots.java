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
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Gives each token of a step its steering slot. A slot is a plan together with those of its
 * interventions that act on the token, and those that solve at it; requests with one plan share
 * slots, so the tables grow with distinct plans and not with requests.
 */
public final class SteeringSlots implements AutoCloseable {
  /** Unused slots are dropped at the next rebuild once there are more than this. */
  private static final int KEEP = 256;

  /**
   * Plans are told apart by identity: comparing their vectors at every token would cost.
   *
   * @param active interventions that change the token
   * @param solving interventions that make a sparse code of it
   */
  private record Key(SteeringPlan plan, BitSet active, BitSet solving) {
    @Override
    @SuppressWarnings("ReferenceEquality") // as said above
    public boolean equals(Object other) {
      return other instanceof Key key
          && plan == key.plan
          && active.equals(key.active)
          && solving.equals(key.solving);
    }

    @Override
    public int hashCode() {
      return 31 * System.identityHashCode(plan) + 7 * active.hashCode() + solving.hashCode();
    }

    /** The interventions that have anything to do, in their order. */
    int[] interventions() {
      BitSet busy = (BitSet) active.clone();
      busy.or(solving);
      return busy.stream().toArray();
    }
  }

  private final Llama model;
  private final Map<Key, Integer> slots = new HashMap<>();
  private final List<Key> keys = new ArrayList<>();
  private final Set<Steered> open = new LinkedHashSet<>();
  private final ConceptRemovals removals;
  private SteeringTable table;
  private boolean stale;

  public SteeringSlots(Llama model) {
    this.model = model;
    this.removals = new ConceptRemovals(model);
  }

  /** A request under a plan. */
  public final class Steered implements AutoCloseable {
    private final SteeringPlan plan;
    private final int[] prompt;
    private final SteeringReport.Builder report;

    private Steered(SteeringPlan plan, int[] prompt) {
      this.plan = plan;
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

    /** Slots of {@code tokens}, which begin at {@code position} of the sequence. */
    public int[] slots(int position, int[] tokens) {
      int[] result = new int[tokens.length];
      if (plan.interventions().isEmpty()) {
        return result;
      }
      for (int i = 0; i < tokens.length; i++) {
        BitSet active = active(position + i, tokens[i]);
        result[i] = slot(active, solving(position + i, active));
      }
      return result;
    }

    /** How many leading tokens of the prompt no intervention has anything to do with. */
    public int unsteered() {
      if (plan.interventions().isEmpty()) {
        return prompt.length;
      }
      for (int i = 0; i < prompt.length; i++) {
        BitSet active = active(i, prompt[i]);
        if (!solving(i, active).isEmpty() || !active.isEmpty()) {
          return i;
        }
      }
      return prompt.length;
    }

    private BitSet active(int position, int token) {
      BitSet active = new BitSet();
      for (int i = 0; i < plan.interventions().size(); i++) {
        Trigger trigger = plan.interventions().get(i).trigger();
        if (position < prompt.length
            ? trigger.selectsPrompt(position, prompt.length, token)
            : trigger.selectsGenerated(position - prompt.length, token)) {
          active.set(i);
        }
      }
      return active;
    }

    /** Leaves what is solved at the prompt's end out of {@code active} before that. */
    private BitSet solving(int position, BitSet active) {
      BitSet solving = new BitSet();
      for (int i = 0; i < plan.interventions().size(); i++) {
        if (plan.interventions().get(i).edit() instanceof RemoveConcepts edit) {
          boolean once = edit.coding().when() == RemoveConcepts.Solve.PROMPT_END;
          if (once && position < prompt.length - 1) {
            active.clear(i);
          }
          solving.set(i, once ? position == prompt.length - 1 : active.get(i));
        }
      }
      return solving;
    }

    private int slot(BitSet active, BitSet solving) {
      return active.isEmpty() && solving.isEmpty()
          ? 0
          : slots.computeIfAbsent(
              new Key(plan, active, solving),
              key -> {
                keys.add(key);
                stale = true;
                return keys.size();
              });
    }

    /** What the plan did up to now. */
    public SteeringReport report() {
      return report.build();
    }

    @Override
    public void close() {
      open.remove(this);
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
      dropUnused();
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
    Steered steered = new Steered(plan, prompt);
    open.add(steered);
    return steered;
  }

  /**
   * Before slots of a step are asked for: drops slots of plans that no open request has, if there
   * are many.
   */
  public void beginStep() {
    if (keys.size() > KEEP) {
      dropUnused();
    }
  }

  private void dropUnused() {
    Set<SteeringPlan> used = new LinkedHashSet<>();
    open.forEach(steered -> used.add(steered.plan));
    if (keys.removeIf(key -> !used.contains(key.plan))) {
      slots.clear();
      for (int i = 0; i < keys.size(); i++) {
        slots.put(keys.get(i), i + 1);
      }
      stale = true;
      closeTable();
      removals.keep(
          used.stream()
              .flatMap(plan -> plan.interventions().stream())
              .map(SteeringPlan.Intervention::edit)
              .filter(RemoveConcepts.class::isInstance)
              .map(edit -> ((RemoveConcepts) edit).coding())
              .collect(Collectors.toSet()));
    }
  }

  /** The tables of all slots given so far; null if there is none. */
  public SteeringTable table() {
    if (stale) {
      closeTable();
      table =
          keys.isEmpty()
              ? null
              : new SteeringTable(
                  model.device(),
                  keys.stream().map(SteeringSlots::edits).toList(),
                  model.config().nHeads(),
                  this::removal);
      stale = false;
    }
    return table;
  }

  /** What a slot does, in the order of its plan. */
  private static List<Edit> edits(Key key) {
    List<Edit> edits = new ArrayList<>();
    for (int i : key.interventions()) {
      Edit edit = key.plan.interventions().get(i).edit();
      edits.add(
          edit instanceof RemoveConcepts concepts
              ? new ConceptRemoval.Use(
                  concepts, Together.of(key.plan, i), key.solving.get(i), key.active.get(i))
              : edit);
    }
    return edits;
  }

  /** Removes concepts from the tokens of slots that agree in how. */
  private QueuedEdit removal(Scope scope, List<Placed> uses) {
    ConceptRemoval.Use first = (ConceptRemoval.Use) uses.getFirst().edit();
    return removals.get(first.together()).of(scope, keys.size() + 1, uses);
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
        int slot = span.slots()[i];
        if (slot == 0) {
          continue;
        }
        Key key = keys.get(slot - 1);
        int[] interventions = key.interventions();
        int row = (span.firstRow() + i) * stride;
        for (int edit = 0; edit < interventions.length; edit++) {
          int intervention = interventions[edit];
          ReportPlace place = table.places(slot).get(edit);
          int from = row + place.at();
          if (key.plan.interventions().get(intervention).edit() instanceof RemoveConcepts) {
            if (key.solving.get(intervention)) {
              ConceptRemoval removal = removals.get(Together.of(key.plan, intervention));
              steered.get(s).report.solved(intervention, changes, from, removal::name);
            }
            if (key.active.get(intervention)) {
              steered.get(s).report.removed(intervention, changes, from);
            }
            continue;
          }
          double squares = 0;
          for (int at = 0; at < place.count(); at++) {
            squares += changes[from + at];
          }
          steered.get(s).report.add(intervention, Math.sqrt(squares));
        }
      }
    }
  }

  @Override
  public void close() {
    closeTable();
    removals.close();
  }

  private void closeTable() {
    if (table != null) {
      model.forget(table);
      table.close();
      table = null;
    }
  }
}
