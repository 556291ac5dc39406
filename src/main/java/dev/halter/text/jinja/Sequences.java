package dev.halter.text.jinja;

import java.util.AbstractList;
import java.util.Arrays;
import java.util.List;

/** Python's sequences that are not lists; a list itself is a plain {@link List}. */
final class Sequences {
  private Sequences() {}

  /** A list whose class says what kind of sequence it is. */
  private abstract static class Wrapped extends AbstractList<Object> {
    private final List<Object> items;

    Wrapped(List<Object> items) {
      this.items = items;
    }

    @Override
    public Object get(int index) {
      return items.get(index);
    }

    @Override
    public int size() {
      return items.size();
    }
  }

  /** Tuples print as such, never equal a list and never join one. */
  static sealed class Tuple extends Wrapped permits Group {
    Tuple(List<Object> items) {
      super(items);
    }
  }

  /** What groupby gives: a tuple whose two items have names. */
  static final class Group extends Tuple {
    Group(Object grouper, List<Object> list) {
      super(Arrays.asList(grouper, list));
    }

    Object grouper() {
      return get(0);
    }

    Object list() {
      return get(1);
    }
  }

  /** A dictionary's items, keys or values: has a length and can be walked, but not indexed. */
  static final class View extends Wrapped {
    View(List<Object> items) {
      super(items);
    }
  }

  /** {@code range(…)}: {@code size} integers from {@code start} in steps of {@code step}. */
  static final class Range extends AbstractList<Object> {
    private final long start;
    private final long step;
    private final int size;

    Range(long start, long step, int size) {
      this.start = start;
      this.step = step;
      this.size = size;
    }

    /** The range of the items at {@code indices}, which lie {@code stride} apart. */
    Range at(int[] indices, long stride) {
      return indices.length == 0
          ? new Range(0, 1, 0)
          : new Range(
              start + indices[0] * step, indices.length == 1 ? 1 : step * stride, indices.length);
    }

    @Override
    public Object get(int index) {
      return start + index * step;
    }

    @Override
    public int size() {
      return size;
    }
  }

  /**
   * What select, map and their kin give: always true, without a length, and walked only once, which
   * templates can observe.
   */
  static final class Generator {
    private List<Object> items;

    Generator(List<Object> items) {
      this.items = items;
    }

    /** All that is left; afterwards nothing is. */
    List<Object> drain() {
      List<Object> rest = items;
      items = List.of();
      return rest;
    }

    /** Takes one item, or gives null when nothing is left. */
    Object[] next() {
      if (items.isEmpty()) {
        return null;
      }
      Object[] first = {items.getFirst()};
      items = items.subList(1, items.size());
      return first;
    }
  }
}
