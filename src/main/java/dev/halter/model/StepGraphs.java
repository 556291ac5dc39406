package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Graph;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;

/**
 * Decode steps as graphs, by all that their launches depend on. The first step of a kind runs as it
 * is, which loads the code and allocates the buffers that it needs; the second is recorded; those
 * after it are only launched. All give the same bits.
 */
final class StepGraphs implements AutoCloseable {
  private final Device device;
  private final Set<Key> seen = new HashSet<>();
  private final Map<Key, Graph> graphs = new HashMap<>();

  private record Key(
      int rows,
      Attention.Work.Shape attention,
      SteeringTable steering,
      int layout, // of steering
      boolean solves,
      Object tail,
      Buffer tailTable) {}

  StepGraphs(Device device) {
    this.device = device;
  }

  /**
   * Runs a step.
   *
   * @param attention the shape of its work
   * @param steering its tables, or null
   * @param solves whether queued edits solve in it: {@link SteeringTable#solves}
   * @param tail the shape of what follows it, and where its table lies
   * @param work queues the step; may depend on nothing else that differs between steps but what
   *     device buffers hold
   */
  void run(
      int rows,
      Attention.Work.Shape attention,
      SteeringTable steering,
      boolean solves,
      Object tail,
      Buffer tailTable,
      Runnable work) {
    int layout = steering == null ? 0 : steering.layout();
    Key key = new Key(rows, attention, steering, layout, solves, tail, tailTable);
    if (seen.contains(key)) {
      graphs.computeIfAbsent(key, unused -> device.record(work)).launch();
    } else {
      forget(other -> other.steering == steering && other.layout != layout);
      work.run();
      seen.add(key);
    }
  }

  /** Forgets the steps that use these tables. */
  void forget(SteeringTable steering) {
    forget(key -> key.steering == steering);
  }

  private void forget(Predicate<Key> goes) {
    seen.removeIf(goes);
    graphs
        .entrySet()
        .removeIf(
            entry -> {
              if (!goes.test(entry.getKey())) {
                return false;
              }
              entry.getValue().close();
              return true;
            });
  }

  /** Forgets all steps, at the end or because buffers that they use have moved. */
  @Override
  public void close() {
    seen.clear();
    graphs.values().forEach(Graph::close);
    graphs.clear();
  }
}
