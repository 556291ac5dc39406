package dev.halter.model;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;

/**
 * Brings what several slots do at one site into rounds: in a round each slot does one thing at
 * most, and all do the same kind of thing. Slots do not meet, so that each keeps its own order, and
 * they share a round where theirs allow it.
 */
final class Rounds {
  private Rounds() {}

  /**
   * Orders the rounds.
   *
   * @param slots what each slot does, in its order
   * @param kind what may share a round
   * @return for each round what is done in it, in the order of slots
   */
  static <T> List<List<T>> of(List<List<T>> slots, Function<T, Object> kind) {
    Map<Object, Integer> left = new LinkedHashMap<>(); // of each kind
    slots.forEach(slot -> slot.forEach(item -> left.merge(kind.apply(item), 1, Integer::sum)));
    List<List<T>> waiting = new ArrayList<>();
    slots.forEach(slot -> waiting.add(new ArrayList<>(slot)));
    List<List<T>> rounds = new ArrayList<>();
    while (true) {
      waiting.removeIf(List::isEmpty);
      if (waiting.isEmpty()) {
        return rounds;
      }
      Map<Object, List<T>> next = new LinkedHashMap<>();
      waiting.forEach(
          slot ->
              next.computeIfAbsent(kind.apply(slot.getFirst()), k -> new ArrayList<>())
                  .add(slot.getFirst()));
      // One that nobody comes to later, so that a round serves all; where orders contradict each
      // other, one that some come to later again.
      Object now =
          next.keySet().stream()
              .filter(k -> Objects.equals(left.get(k), next.get(k).size()))
              .findFirst()
              .orElseGet(() -> next.keySet().iterator().next());
      rounds.add(next.get(now));
      left.merge(now, -next.get(now).size(), Integer::sum);
      waiting.stream()
          .filter(slot -> kind.apply(slot.getFirst()).equals(now))
          .forEach(List::removeFirst);
    }
  }
}
