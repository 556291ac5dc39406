package dev.halter.serving.dialects;

import dev.halter.files.JsonObject;
import dev.halter.steering.SteeringPlan;
import java.util.List;

/**
 * Fields of a request's body in which clients of another server say how to steer. What they mean is
 * a plan; what no plan can mean is an error that names the field ({@link
 * dev.halter.files.BadFileException}), never left out.
 */
public sealed interface Dialect permits EasySteer, RhizoNymph, VllmLens {
  /** Those of its fields that a body has; of another dialect's it says nothing. */
  List<String> in(JsonObject body);

  /**
   * All that steers a request: what acts on every one, and what the fields of its body mean.
   *
   * @throws dev.halter.files.BadFileException if they mean nothing that a plan can say
   */
  SteeringPlan plan(JsonObject body, Before before);

  /**
   * What acts on every request.
   *
   * @param server the server's own plan
   * @param tiers what was set since it started
   */
  record Before(SteeringPlan server, SteeringTiers tiers) {
    /** Both, as one plan. */
    public SteeringPlan plan() {
      return then(SteeringTiers.NONE, "");
    }

    /** Both and more tiers, whose vectors come before the clamps of all of them. */
    SteeringPlan then(SteeringTiers more, String name) {
      SteeringTiers all = tiers.and(more);
      if (all.isEmpty()) {
        return server;
      }
      String set = more.isEmpty() ? "set" : "set, " + name;
      return server.then(all.plan(tiers.isEmpty() ? name : set));
    }
  }
}
