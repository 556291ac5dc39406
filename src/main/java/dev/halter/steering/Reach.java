package dev.halter.steering;

import dev.halter.model.Edit;
import dev.halter.steering.SteeringPlan.Intervention;
import java.util.List;

/** Which tokens of a question something is fitted on and acts on. */
public enum Reach {
  /** The prompt's last. */
  END(Trigger.LAST),
  /** The prompt's last and the answer's. */
  ANSWER(Trigger.FROM_LAST),
  /** Every token of prompt and answer. */
  ALL(Trigger.ALWAYS);

  private final Trigger trigger;

  Reach(Trigger trigger) {
    this.trigger = trigger;
  }

  public Trigger trigger() {
    return trigger;
  }

  /** Edits that act there. */
  public List<Intervention> of(List<Edit> edits) {
    return edits.stream().map(edit -> new Intervention(edit, trigger)).toList();
  }
}
