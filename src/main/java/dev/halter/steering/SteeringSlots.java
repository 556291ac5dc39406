package dev.halter.steering;

import dev.halter.device.Device;
import dev.halter.model.Batch;
import dev.halter.model.Llama;
import dev.halter.model.SteeringTable;
import dev.halter.model.SteeringTable.Edit;
import dev.halter.model.SteeringTable.ReportPlace;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Gives each token of a step its steering slot. A slot is a plan together with those of its
 * interventions that act on the token; requests with one plan share slots, so the tables grow with
 * distinct plans and not with requests.
 */
public final class SteeringSlots implements AutoCloseable {
  /** Unused slots are dropped at the next rebuild once there are more than this. */
  private static final int KEEP = 256;

  /** Plans are told apart by identity: comparing their vectors at every token would cost. */
  private record Key(SteeringPlan plan, BitSet active) {
    @Override
    public boolean equals(Object other) {
      return other instanceof Key key && plan == key.plan && active.equals(key.active);
    }

    @Override
    public int hashCode() {
      return 31 * System.identityHashCode(plan) + active.hashCode();
    }
  }

  private final Llama model;
  private final Map<Key, Integer> slots = new HashMap<>();
  private final List<Key> keys = new ArrayList<>();
  private final Set<Steered> open = new LinkedHashSet<>();
  private SteeringTable table;
  private boolean stale;

  public SteeringSlots(Llama model) {
    this.model = model;
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
        result[i] = slot(active(position + i, tokens[i]));
      }
      return result;
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

    private int slot(BitSet active) {
      return active.isEmpty()
          ? 0
          : slots.computeIfAbsent(
              new Key(plan, active),
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
   *     generation, or that was made for another model
   */
  public void check(SteeringPlan plan, int[] prompt) {
    for (SteeringPlan.Intervention intervention : plan.interventions()) {
      Trigger trigger = intervention.trigger();
      if (intervention.edit() instanceof Edit.HeadAffine maps
          && !maps.fingerprint().equals(model.fingerprint())) {
        throw new IllegalArgumentException(
            "plan '%s': the file of %s was made for another model: fit one for this model"
                .formatted(plan.name(), intervention.op()));
      }
      if (!trigger.actsOnGeneration() && !trigger.actsOnPrompt(prompt)) {
        throw new IllegalArgumentException(
            "plan '%s' selects nothing: %s at %s selects none of the prompt's %d tokens"
                .formatted(
                    plan.name(), intervention.op(), intervention.edit().site(), prompt.length));
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
      Set<SteeringPlan> used = new LinkedHashSet<>();
      open.forEach(steered -> used.add(steered.plan));
      if (keys.removeIf(key -> !used.contains(key.plan))) {
        slots.clear();
        for (int i = 0; i < keys.size(); i++) {
          slots.put(keys.get(i), i + 1);
        }
        stale = true;
      }
    }
  }

  /** The tables of all slots given so far; null if there is none. */
  public SteeringTable table() {
    if (stale) {
      close();
      Device device = model.device();
      List<List<Edit>> edits = new ArrayList<>();
      for (Key key : keys) {
        edits.add(
            key.active.stream().mapToObj(i -> key.plan.interventions().get(i).edit()).toList());
      }
      table = keys.isEmpty() ? null : new SteeringTable(device, edits, model.config().nHeads());
      stale = false;
    }
    return table;
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
        List<ReportPlace> places = table.places(slot);
        int intervention = -1;
        BitSet active = keys.get(slot - 1).active;
        for (ReportPlace place : places) {
          intervention = active.nextSetBit(intervention + 1);
          double squares = 0;
          for (int at = 0; at < place.count(); at++) {
            squares += changes[(span.firstRow() + i) * stride + place.at() + at];
          }
          steered.get(s).report.add(intervention, Math.sqrt(squares));
        }
      }
    }
  }

  @Override
  public void close() {
    if (table != null) {
      model.forget(table);
      table.close();
      table = null;
    }
  }
}
