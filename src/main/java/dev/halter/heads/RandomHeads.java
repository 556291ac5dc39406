package dev.halter.heads;

import dev.halter.model.Head;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;

/** Heads drawn at random among those that were not chosen: what chosen ones are set against. */
public final class RandomHeads {
  private final List<Head> others;
  private final Random random;

  /** All heads of a model but {@code chosen}. */
  public RandomHeads(ModelConfig config, Collection<Head> chosen, Random random) {
    this.others = new ArrayList<>(Head.all(config));
    this.others.removeAll(new HashSet<>(chosen));
    this.random = random;
  }

  /** How many there are. */
  public int count() {
    return others.size();
  }

  /** All of them in an order that is drawn anew each time. */
  public List<Head> draw() {
    Collections.shuffle(others, random);
    return List.copyOf(others);
  }
}
