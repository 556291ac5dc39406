package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/**
 * The residual stream of examples where it comes to the lowest tuned layer: what lies below never
 * changes, so that it is made once. Holds the first examples that there is room for.
 */
final class PrefixCache {
  private final IdentityHashMap<Example, Buffer> places =
      new IdentityHashMap<>(); // [rows, d_model] f32
  private final Set<Buffer> filled = new HashSet<>();
  private final long bytes;

  /**
   * Makes room.
   *
   * @param scope that it lives in
   * @param bytes at most
   */
  PrefixCache(Scope scope, List<Example> examples, int dModel, long bytes) {
    long taken = 0;
    int count = 0;
    for (Example example : examples) {
      long more = 4L * example.rows() * dModel;
      if (taken + more > bytes) {
        break;
      }
      taken += more;
      count++;
    }
    this.bytes = taken;
    Buffer all = taken == 0 ? null : scope.allocate(taken);
    long at = 0;
    for (Example example : examples.subList(0, count)) {
      Buffer place = all.slice(at, 4L * example.rows() * dModel);
      places.put(example, place);
      at += place.bytes();
    }
  }

  /** Bytes that it takes. */
  long bytes() {
    return bytes;
  }

  /** Copies what is known of an example, if it is. */
  boolean read(Example example, Buffer to) {
    Buffer place = places.get(example);
    if (place == null || !filled.contains(place)) {
      return false;
    }
    to.copyFrom(place);
    return true;
  }

  /** Remembers an example, if there is room for it. */
  void write(Example example, Buffer from) {
    Buffer place = places.get(example);
    if (place != null) {
      place.copyFrom(from);
      filled.add(place);
    }
  }
}
