package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.model.SteeringTable.Placed;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.IntConsumer;
import java.util.function.Predicate;

/**
 * What is queued at one site: rounds, in each of which every slot does one thing at most. A slot
 * whose runs fit into the rounds that are there, in their order, joins and leaves them in place, so
 * that recorded steps go on; where it needs another round, or leaves one to nobody, they are laid
 * out anew.
 */
final class QueuedRounds implements AutoCloseable {
  private final Device device;
  private final SteeringTable.Queue queue;
  private final SortedMap<Integer, List<EditRun>> slots = new TreeMap<>();
  private List<Round> rounds = List.of();
  private Scope scope; // that the rounds live in
  private boolean isSettled;

  /**
   * What does one thing for all slots that have joined.
   *
   * @param joins takes a slot's run in; false if there is no room for it
   */
  private record Round(
      Object together,
      QueuedEdit edit,
      Predicate<EditRun> joins,
      IntConsumer leaves,
      Set<Integer> slots) {
    boolean join(EditRun run) {
      boolean joined = joins.test(run);
      if (joined) {
        slots.add(run.slot());
      }
      return joined;
    }

    /** Lets a slot out; whether nobody is left. */
    boolean leave(int slot) {
      if (!slots.remove(slot)) {
        return false;
      }
      leaves.accept(slot);
      return slots.isEmpty();
    }
  }

  QueuedRounds(Device device, SteeringTable.Queue queue) {
    this.device = device;
    this.queue = queue;
  }

  /** Takes in what a slot does, whose operations have their places. */
  void add(int slot, List<EditRun> runs) {
    slots.put(slot, runs);
    if (isSettled) {
      isSettled = joinAll(runs);
    }
  }

  /** Lets a slot join rounds that are there; false if they do not serve it. */
  private boolean joinAll(List<EditRun> runs) {
    int next = 0;
    for (EditRun run : runs) {
      while (next < rounds.size() && !rounds.get(next).together.equals(run.together)) {
        next++;
      }
      if (next == rounds.size() || !rounds.get(next++).join(run)) {
        return false;
      }
    }
    return true;
  }

  void remove(int slot) {
    slots.remove(slot);
    for (Round round : rounds) {
      if (round.leave(slot)) {
        isSettled = false;
      }
    }
  }

  /** Has all laid out anew: tables that they point to have moved. */
  void unsettle() {
    isSettled = false;
  }

  /**
   * Lays the rounds out if that is due.
   *
   * @param capacity all slots' numbers are below it
   * @param ops the operations of all slots
   * @return whether they are others than before
   */
  boolean settle(int capacity, Buffer ops) {
    if (isSettled) {
      return false;
    }
    Scope newScope = device.scope();
    List<Round> newRounds = new ArrayList<>();
    try {
      for (List<EditRun> runs : Rounds.of(List.copyOf(slots.values()), EditRun::together)) {
        Round round = round(newScope, capacity, runs, ops);
        for (EditRun run : runs) {
          if (!round.join(run)) {
            throw new IllegalStateException(
                "no room for " + run.edits + " of those it is made for");
          }
        }
        newRounds.add(round);
      }
    } catch (RuntimeException | Error e) {
      newScope.closeAfter(e);
      throw e;
    }
    close();
    scope = newScope;
    rounds = newRounds;
    isSettled = true;
    return true;
  }

  private Round round(Scope newScope, int capacity, List<EditRun> runs, Buffer ops) {
    EditRun first = runs.getFirst();
    if (first.isOfKernels()) {
      RowEdits edit = new RowEdits(device, newScope.of(new int[2 * capacity]), ops);
      return new Round(
          first.together,
          edit,
          run -> {
            edit.set(run.slot(), run.begin, run.end());
            return true;
          },
          slot -> edit.set(slot, 0, 0),
          new HashSet<>());
    }
    List<Placed> edits = runs.stream().map(run -> run.edits.getFirst()).toList();
    SlotEdit edit = queue.of(newScope, capacity, edits);
    return new Round(
        first.together, edit, run -> edit.join(run.edits.getFirst()), edit::leave, new HashSet<>());
  }

  /** What is queued, in order, as of the last {@link #settle}. */
  List<QueuedEdit> inOrder() {
    return rounds.stream().map(Round::edit).toList();
  }

  @Override
  public void close() {
    if (scope != null) {
      scope.close();
    }
  }
}
