package dev.halter.text.jinja;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a template can call: a global function, a macro, or a method bound to its object. */
@FunctionalInterface
interface Function {
  Object call(Arguments arguments);

  /** The evaluated arguments of a call, a filter or a test. */
  record Arguments(List<Object> positional, Map<String, Object> named) {
    /** Stands for an optional argument that was left out; null is Python's None. */
    static final Object ABSENT = new Object();

    /**
     * The arguments in the order of {@code parameters}, of which the first {@code required} must be
     * there; too many, unknown or doubly given ones are errors.
     */
    Object[] bind(String function, int required, String... parameters) {
      if (positional.size() > parameters.length) {
        throw new TemplateException(
            function + " takes at most " + parameters.length + " arguments");
      }
      Object[] bound = new Object[parameters.length];
      int found = 0;
      for (int i = 0; i < bound.length; i++) {
        boolean isNamed = named.containsKey(parameters[i]);
        if (i < positional.size() && isNamed) {
          throw new TemplateException(function + " got " + parameters[i] + " twice");
        }
        found += isNamed ? 1 : 0;
        bound[i] =
            i < positional.size() ? positional.get(i) : named.getOrDefault(parameters[i], ABSENT);
        if (i < required && bound[i] == ABSENT) {
          throw new TemplateException(function + " needs the argument " + parameters[i]);
        }
      }
      if (found < named.size()) {
        throw new TemplateException(
            "unsupported argument among " + named.keySet() + " of " + function);
      }
      return bound;
    }

    Arguments with(String name, Object value) {
      Map<String, Object> more = new LinkedHashMap<>(named);
      more.put(name, value);
      return new Arguments(positional, more);
    }

    Arguments without(String name) {
      Map<String, Object> fewer = new LinkedHashMap<>(named);
      fewer.remove(name);
      return new Arguments(positional, fewer);
    }

    /** The arguments behind the first {@code count} positional ones. */
    Arguments skip(int count) {
      return new Arguments(positional.subList(count, positional.size()), named);
    }
  }
}
