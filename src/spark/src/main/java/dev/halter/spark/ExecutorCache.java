package dev.halter.spark;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.spark.TaskContext;

/**
 * What an executor keeps open from task to task, on each of its places: a model is loaded once,
 * however many tasks use it, and stays until another is wanted there.
 */
final class ExecutorCache {
  /** Something that is kept. */
  interface Kept extends AutoCloseable {
    /** Whether it can be of no use any more. */
    boolean isBroken();

    @Override
    void close();
  }

  private static final Map<Place, ExecutorCache> PLACES = new ConcurrentHashMap<>();

  private final List<Entry> entries = new ArrayList<>();

  private static final class Entry {
    final Object key;
    final Kept kept;
    int users;

    Entry(Object key, Kept kept) {
      this.key = key;
      this.kept = kept;
    }
  }

  private ExecutorCache() {}

  /**
   * What is kept at a place under a key, opened if it is not there, for a task until it ends. What
   * no task uses makes room first; what one does use is left alone, since a task may itself use
   * several, one after the other.
   */
  static <T extends Kept> T take(
      Place place, Class<T> type, Object key, TaskContext task, Supplier<T> open) {
    ExecutorCache cache = PLACES.computeIfAbsent(place, any -> new ExecutorCache());
    Entry entry = cache.take(List.of(type, key), open);
    task.addTaskCompletionListener(
        ended -> {
          cache.release(entry);
        });
    return type.cast(entry.kept);
  }

  private synchronized Entry take(Object key, Supplier<? extends Kept> open) {
    closeIdle(entry -> !entry.key.equals(key) || entry.kept.isBroken());
    Entry entry =
        entries.stream()
            .filter(each -> each.key.equals(key) && !each.kept.isBroken())
            .findFirst()
            .orElse(null);
    if (entry == null) {
      entry = new Entry(key, open.get());
      entries.add(entry);
    }
    entry.users++;
    return entry;
  }

  private void closeIdle(Predicate<Entry> which) {
    for (Iterator<Entry> each = entries.iterator(); each.hasNext(); ) {
      Entry entry = each.next();
      if (entry.users == 0 && which.test(entry)) {
        each.remove();
        entry.kept.close();
      }
    }
  }

  private synchronized void release(Entry entry) {
    entry.users--;
  }
}
