package dev.halter.steering;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;

/**
 * Plans that are added, scaled, switched off and taken away while a conversation goes on. They act
 * in the order in which they were added:
 *
 * {@snippet file="dev/halter/snippets/SteeringSnippetsTest.java" region="active"}
 */
public final class ActivePlans {

  /** A plan and how it is set. */
  private record Setting(SteeringPlan plan, double strength, boolean on) {
    @Override
    public String toString() {
      return plan.name()
          + (strength == 1
              ? ""
              : " \u00D7" + Float.toString((float) strength).replaceAll("\\.0$", ""))
          + (on ? "" : " off");
    }
  }

  private final Map<String, Setting> settings = new LinkedHashMap<>();
  private SteeringPlan plan = SteeringPlan.NONE;

  /** Adds a plan under a name, or puts it in the place and at the strength of the one so named. */
  public void put(String name, SteeringPlan added) {
    settings.merge(
        name,
        new Setting(added, 1, true),
        (old, fresh) -> new Setting(fresh.plan, old.strength, true));
    compose();
  }

  /** Takes a plan away. */
  public void remove(String name) {
    require(name);
    settings.remove(name);
    compose();
  }

  /** Sets a plan's strength, see {@link SteeringPlan#scaled}. */
  public void scale(String name, double strength) {
    change(name, setting -> new Setting(setting.plan, strength, setting.on));
  }

  /** Switches a plan on or off; it keeps its place and its strength. */
  public void turn(String name, boolean on) {
    change(name, setting -> new Setting(setting.plan, setting.strength, on));
  }

  private void change(String name, UnaryOperator<Setting> changed) {
    require(name);
    settings.computeIfPresent(name, (key, setting) -> changed.apply(setting));
    compose();
  }

  private void require(String name) {
    if (!settings.containsKey(name)) {
      throw new IllegalArgumentException(
          settings.isEmpty()
              ? "no plan is loaded"
              : "no plan is named '" + name + "': there are " + String.join(", ", names()));
    }
  }

  private void compose() {
    plan = SteeringPlan.NONE;
    for (Setting setting : settings.values()) {
      if (setting.on && setting.strength != 0) {
        plan =
            plan.then(
                setting.strength == 1
                    ? setting.plan
                    : setting.plan.scaled(setting.strength).named(setting.toString()));
      }
    }
  }

  /** Names of all plans, in their order. */
  public List<String> names() {
    return List.copyOf(settings.keySet());
  }

  /**
   * What those that are on do together: {@link SteeringPlan#NONE} where none is, or all are at
   * strength 0. The very same object until something changes, so that requests share its tables.
   */
  public SteeringPlan plan() {
    return plan;
  }

  /** All plans with their strengths, as in {@code calm, more dogs ×0.5, 1.270=30 off}. */
  @Override
  public String toString() {
    List<String> shown = new ArrayList<>();
    settings.values().forEach(setting -> shown.add(setting.toString()));
    return String.join(", ", shown);
  }
}
