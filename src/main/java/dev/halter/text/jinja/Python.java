package dev.halter.text.jinja;

import dev.halter.text.jinja.Sequences.Generator;
import dev.halter.text.jinja.Sequences.Range;
import dev.halter.text.jinja.Sequences.Tuple;
import dev.halter.text.jinja.Sequences.View;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Python's meaning of values. None is null, int is Long (64 bits; more is an error), float is
 * Double, str is String counted in code points, list is {@link List}, dict is {@link Map} with keys
 * that {@link #key} gives.
 */
final class Python {
  private final Budget budget;

  Python(Budget budget) {
    this.budget = budget;
  }

  static boolean isSpace(int c) {
    return (c >= 0x09 && c <= 0x0d)
        || (c >= 0x1c && c <= 0x20)
        || c == 0x85
        || c == 0xa0
        || c == 0x1680
        || (c >= 0x2000 && c <= 0x200a)
        || c == 0x2028
        || c == 0x2029
        || c == 0x202f
        || c == 0x205f
        || c == 0x3000;
  }

  /** Whether {@code text} is not empty and white throughout. */
  static boolean isSpace(String text) {
    return !text.isEmpty() && text.chars().allMatch(Python::isSpace);
  }

  static String strip(String text, boolean left, boolean right) {
    int start = 0;
    int end = text.length();
    while (left && start < end && isSpace(text.charAt(start))) {
      start++;
    }
    while (right && end > start && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(start, end);
  }

  static String typeName(Object value) {
    return switch (value) {
      case null -> "None";
      case Undefined u -> "Undefined";
      case Boolean b -> "bool";
      case Long l -> "int";
      case Double d -> "float";
      case String s -> "str";
      case Tuple t -> "tuple";
      case View v -> "view";
      case Range r -> "range";
      case List<?> l -> "list";
      case Map<?, ?> m -> "dict";
      case Generator g -> "generator";
      case Function f -> "function";
      default -> value.getClass().getSimpleName().toLowerCase(Locale.ROOT);
    };
  }

  static boolean truth(Object value) {
    return switch (value) {
      case null -> false;
      case Undefined u -> false;
      case Boolean b -> b;
      case Long l -> l != 0;
      case Double d -> d != 0;
      case String s -> !s.isEmpty();
      case List<?> l -> !l.isEmpty();
      case Map<?, ?> m -> !m.isEmpty();
      default -> true;
    };
  }

  int length(Object value) {
    if (value instanceof Undefined) {
      return 0;
    }
    if (value instanceof String text) {
      budget.charge(text.length());
      return text.codePointCount(0, text.length());
    }
    if (value instanceof List<?> list) {
      return list.size();
    }
    if (value instanceof Map<?, ?> map) {
      return map.size();
    }
    throw new TemplateException("object of type '" + typeName(value) + "' has no len()");
  }

  /** The items of a loop over {@code value}: code points of a string, keys of a dict. */
  List<Object> iterate(Object value) {
    if (value instanceof Undefined) {
      return List.of();
    }
    if (value instanceof String text) {
      budget.charge((long) text.length() * Budget.ELEMENT);
      return text.codePoints().<Object>mapToObj(Character::toString).toList();
    }
    if (value instanceof List<?> list) {
      return new ArrayList<>(charged(list));
    }
    if (value instanceof Map<?, ?> map) {
      budget.charge((long) map.size() * Budget.ELEMENT);
      return new ArrayList<>(map.keySet());
    }
    if (value instanceof Generator generator) {
      return generator.drain();
    }
    throw new TemplateException("'" + typeName(value) + "' object is not iterable");
  }

  /** {@code list}, after charging for a copy of it. */
  <T> List<T> charged(List<T> list) {
    budget.charge((long) list.size() * Budget.ELEMENT);
    return list;
  }

  /** {@code text}, after charging for it. */
  String charged(String text) {
    budget.charge(text.length());
    return text;
  }

  /** Python's str(): how a value prints. */
  String str(Object value) {
    if (value instanceof Undefined) {
      return "";
    }
    return value instanceof String text ? text : repr(value);
  }

  String repr(Object value) {
    StringBuilder out = new StringBuilder();
    repr(value, out);
    return out.toString();
  }

  private void repr(Object value, StringBuilder out) {
    budget.enter();
    budget.charge(Budget.NODE);
    switch (value) {
      case null -> out.append("None");
      case Undefined u -> out.append("Undefined");
      case Boolean b -> out.append(b ? "True" : "False");
      case Long l -> out.append(l);
      case Double d -> out.append(floatRepr(d));
      case String s -> stringRepr(s, out);
      case Tuple t -> {
        reprItems(t, "(", t.size() == 1 ? ",)" : ")", out);
      }
      case View v -> throw unprintable(value);
      case Range r -> throw unprintable(value);
      case List<?> l -> reprItems(l, "[", "]", out);
      case Map<?, ?> m -> {
        out.append('{');
        String separator = "";
        for (Map.Entry<?, ?> entry : m.entrySet()) {
          out.append(separator);
          repr(entry.getKey(), out);
          out.append(": ");
          repr(entry.getValue(), out);
          separator = ", ";
        }
        out.append('}');
      }
      default -> throw unprintable(value);
    }
    budget.leave();
  }

  private static TemplateException unprintable(Object value) {
    return new TemplateException("unsupported: printing a " + typeName(value));
  }

  private void reprItems(List<?> items, String open, String close, StringBuilder out) {
    out.append(open);
    String separator = "";
    for (Object item : items) {
      out.append(separator);
      repr(item, out);
      separator = ", ";
    }
    out.append(close);
  }

  private void stringRepr(String text, StringBuilder out) {
    budget.charge(text.length());
    char quote = text.indexOf('\'') >= 0 && text.indexOf('"') < 0 ? '"' : '\'';
    out.append(quote);
    text.codePoints()
        .forEach(
            c -> {
              switch (c) {
                case '\n' -> out.append("\\n");
                case '\t' -> out.append("\\t");
                case '\r' -> out.append("\\r");
                case '\\' -> out.append("\\\\");
                default -> {
                  if (c == quote) {
                    out.append('\\').append(quote);
                  } else if (isPrintable(c)) {
                    out.appendCodePoint(c);
                  } else {
                    String format = c <= 0xff ? "\\x%02x" : c <= 0xffff ? "\\u%04x" : "\\U%08x";
                    out.append(String.format(Locale.ROOT, format, c));
                  }
                }
              }
            });
    out.append(quote);
  }

  /** As str.isprintable: not of the categories "other" and "separator", but for the space. */
  private static boolean isPrintable(int c) {
    return switch (Character.getType(c)) {
      case Character.CONTROL,
          Character.FORMAT,
          Character.SURROGATE,
          Character.PRIVATE_USE,
          Character.UNASSIGNED,
          Character.LINE_SEPARATOR,
          Character.PARAGRAPH_SEPARATOR ->
          false;
      case Character.SPACE_SEPARATOR -> c == ' ';
      default -> true;
    };
  }

  /** The shortest digits that read back as {@code value}, laid out as Python lays them out. */
  static String floatRepr(double value) {
    if (Double.isNaN(value)) {
      return "nan";
    }
    if (Double.isInfinite(value)) {
      return value > 0 ? "inf" : "-inf";
    }
    String sign = 1 / value < 0 || value < 0 ? "-" : "";
    if (value == 0) {
      return sign + "0.0";
    }
    BigDecimal decimal = new BigDecimal(Double.toString(Math.abs(value))).stripTrailingZeros();
    int exponent = decimal.precision() - decimal.scale() - 1;
    if (exponent >= -4 && exponent < 16) {
      String plain = decimal.toPlainString();
      return sign + plain + (plain.indexOf('.') < 0 ? ".0" : "");
    }
    String digits = decimal.unscaledValue().toString();
    String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
    return sign
        + digits.charAt(0)
        + fraction
        + (exponent < 0 ? "e-" : "e+")
        + (Math.abs(exponent) < 10 ? "0" : "")
        + Math.abs(exponent);
  }

  static boolean isNumber(Object value) {
    return value instanceof Long || value instanceof Double || value instanceof Boolean;
  }

  /** A bool counts as the int it is in Python. */
  static Object number(Object value) {
    return value instanceof Boolean b ? Long.valueOf(b ? 1 : 0) : value;
  }

  static double toDouble(Object number) {
    return ((Number) number(number)).doubleValue();
  }

  boolean equal(Object left, Object right) {
    budget.enter();
    budget.charge(Budget.NODE);
    boolean equal;
    if (isNumber(left) && isNumber(right)) {
      equal = compareNumbers(left, right) == 0 && !isNan(left) && !isNan(right);
    } else if (left instanceof String a && right instanceof String b) {
      budget.charge(Math.min(a.length(), b.length()));
      equal = a.equals(b);
    } else if (left instanceof List<?> a && right instanceof List<?> b) {
      equal = a instanceof Tuple == b instanceof Tuple && a.size() == b.size();
      Iterator<?> others = b.iterator();
      for (Object item : a) {
        equal = equal && equal(item, others.next());
        if (!equal) {
          break;
        }
      }
    } else if (left instanceof Map<?, ?> a && right instanceof Map<?, ?> b) {
      equal = a.size() == b.size();
      for (Map.Entry<?, ?> entry : a.entrySet()) {
        equal =
            equal
                && has(b, entry.getKey())
                && equal(entry.getValue(), b.get(key(b, entry.getKey())));
      }
    } else {
      equal = left == right || (left instanceof Undefined && right instanceof Undefined);
    }
    budget.leave();
    return equal;
  }

  private static boolean isNan(Object value) {
    return value instanceof Double d && d.isNaN();
  }

  private static int compareNumbers(Object left, Object right) {
    Object a = number(left);
    Object b = number(right);
    if (a instanceof Long x && b instanceof Long y) {
      return Long.compare(x, y);
    }
    return new BigDecimal(finite(a)).compareTo(new BigDecimal(finite(b)));
  }

  /** Infinities and NaN do not occur in honest templates, and BigDecimal has none. */
  private static String finite(Object number) {
    if (number instanceof Double d && !Double.isFinite(d)) {
      throw new TemplateException("unsupported: comparing " + floatRepr(d));
    }
    return number.toString();
  }

  /** Python's order of two numbers, strings (by code point) or lists; others have none. */
  int compare(Object left, Object right) {
    budget.charge(Budget.NODE);
    if (isNumber(left) && isNumber(right)) {
      return compareNumbers(left, right);
    }
    if (left instanceof String a && right instanceof String b) {
      budget.charge(8L * Math.min(a.length(), b.length()));
      return java.util.Arrays.compare(a.codePoints().toArray(), b.codePoints().toArray());
    }
    if (left instanceof Undefined u) {
      throw u.failure();
    }
    if (right instanceof Undefined u) {
      throw u.failure();
    }
    throw new TemplateException(
        "unsupported: ordering '" + typeName(left) + "' and '" + typeName(right) + "'");
  }

  /** Whether a dict has a key. */
  static boolean has(Map<?, ?> map, Object key) {
    return map.containsKey(key(map, key));
  }

  /**
   * The key of a dict that is equal to {@code key}, or {@code key} itself where none is: 1, 1.0 and
   * True are one key to Python, and the first of them stays.
   */
  static Object key(Map<?, ?> map, Object key) {
    if (key == null || key instanceof String || key instanceof Undefined) {
      return key;
    }
    if (!isNumber(key)) {
      throw new TemplateException(
          key instanceof Tuple
              ? "unsupported: a tuple as a key"
              : "unhashable type: '" + typeName(key) + "'");
    }
    double value = toDouble(key);
    List<Object> equals = new ArrayList<>(List.of(key, value));
    if (value == Math.rint(value) && Math.abs(value) < 0x1p53) {
      equals.add((long) value);
    }
    if (value == 0 || value == 1) {
      equals.addAll(List.of(value == 1, 0.0, -0.0));
    }
    for (Object equal : equals) {
      if (map.containsKey(equal) && compareNumbers(equal, key) == 0) {
        return equal;
      }
    }
    return key;
  }

  /** {@code item in container}. */
  boolean contains(Object container, Object item) {
    if (container instanceof String text) {
      if (item instanceof String part) {
        budget.chargeSearch(text.length(), part.length());
        return text.contains(part);
      }
      throw new TemplateException(
          "'in <string>' requires a string on its left, not " + typeName(item));
    }
    if (container instanceof Map<?, ?> map) {
      return has(map, item);
    }
    for (Object candidate : iterate(container)) {
      if (equal(candidate, item)) {
        return true;
      }
    }
    return false;
  }

  /** {@code target[index]} for a position, or {@link Undefined} outside of it. */
  Object at(Object target, long index) {
    if (target instanceof String text) {
      budget.charge(text.length());
      int length = text.codePointCount(0, text.length());
      long position = index < 0 ? index + length : index;
      if (position >= 0 && position < length) {
        return Character.toString(text.codePointAt(text.offsetByCodePoints(0, (int) position)));
      }
    } else if (target instanceof List<?> list && !(target instanceof View)) {
      long position = index < 0 ? index + list.size() : index;
      if (position >= 0 && position < list.size()) {
        return list.get((int) position);
      }
    }
    return new Undefined(typeName(target) + " object has no element " + index);
  }

  /** {@code target[start:stop:step]} with null for parts left out. */
  Object slice(Object target, Long start, Long stop, Long step) {
    if (target instanceof String text) {
      budget.charge(8L * text.length());
      int[] points = text.codePoints().toArray();
      StringBuilder out = new StringBuilder();
      for (int i : indices(points.length, start, stop, step)) {
        out.appendCodePoint(points[i]);
      }
      return out.toString();
    }
    if (target instanceof List<?> list && !(target instanceof View)) {
      int[] indices = indices(charged(list).size(), start, stop, step);
      if (target instanceof Range range) {
        return range.at(indices, step == null ? 1 : step);
      }
      List<Object> out = new ArrayList<>();
      for (int i : indices) {
        out.add(list.get(i));
      }
      return target instanceof Tuple ? new Tuple(out) : out;
    }
    if (target instanceof Undefined u) {
      throw u.failure();
    }
    throw new TemplateException("cannot slice '" + typeName(target) + "'");
  }

  /** The positions a slice takes, after Python's slice.indices. */
  private static int[] indices(int length, Long start, Long stop, Long stepOrNull) {
    long step = stepOrNull == null ? 1 : stepOrNull;
    if (step == 0) {
      throw new TemplateException("slice step cannot be zero");
    }
    long lowest = step < 0 ? -1 : 0;
    long highest = step < 0 ? length - 1 : length;
    long from =
        start == null ? (step < 0 ? highest : lowest) : bound(start, length, lowest, highest);
    long to = stop == null ? (step < 0 ? lowest : highest) : bound(stop, length, lowest, highest);
    long span = step < 0 ? from - to : to - from;
    if (span <= 0) {
      return new int[0];
    }
    // Steps longer than the span take one item whatever their size; clamped, nothing overflows.
    long stride =
        Math.min(step < 0 ? -Math.max(step, -Integer.MAX_VALUE) : step, Integer.MAX_VALUE);
    int[] indices = new int[(int) ((span - 1) / stride + 1)];
    for (int i = 0; i < indices.length; i++) {
      indices[i] = (int) (from + (step < 0 ? -i * stride : i * stride));
    }
    return indices;
  }

  private static long bound(long index, int length, long lowest, long highest) {
    long position = index < 0 ? Math.max(index, -length - 1L) + length : index;
    return Math.min(Math.max(position, lowest), highest);
  }
}
