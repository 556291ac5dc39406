package dev.halter.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Python's {@code json.dumps}, which transformers puts in place of Jinja's own tojson filter. */
final class PythonJson {
  private final Budget budget;
  private final String indent;
  private final boolean ascii;
  private final boolean sorted;
  private final String itemSeparator;
  private final String keySeparator;
  private final StringBuilder out = new StringBuilder();

  /** {@code indent} is null for one line; the separators are null for Python's defaults. */
  PythonJson(
      Budget budget,
      String indent,
      boolean ascii,
      boolean sorted,
      String itemSeparator,
      String keySeparator) {
    this.budget = budget;
    this.indent = indent;
    this.ascii = ascii;
    this.sorted = sorted;
    this.itemSeparator = itemSeparator != null ? itemSeparator : indent == null ? ", " : ",";
    this.keySeparator = keySeparator != null ? keySeparator : ": ";
  }

  String dump(Object value) {
    write(value, 0);
    return out.toString();
  }

  private void write(Object value, int level) {
    budget.enter();
    budget.charge(Budget.NODE + itemSeparator.length() + keySeparator.length());
    budget.charge(indent == null ? 0 : (level + 1L) * indent.length());
    switch (value) {
      case null -> out.append("null");
      case Boolean b -> out.append(b);
      case Long l -> out.append(l);
      case Double d ->
          out.append(
              d.isNaN()
                  ? "NaN"
                  : d.isInfinite() ? (d > 0 ? "Infinity" : "-Infinity") : Python.floatRepr(d));
      case String s -> string(s);
      case Sequences.View v -> throw unsupported(value);
      case Sequences.Range r -> throw unsupported(value);
      case List<?> list -> {
        out.append('[');
        String separator = "";
        for (Object item : list) {
          out.append(separator);
          newLine(level + 1);
          write(item, level + 1);
          separator = itemSeparator;
        }
        close(']', list.isEmpty(), level);
      }
      case Map<?, ?> map -> {
        out.append('{');
        String separator = "";
        List<Map.Entry<?, ?>> entries = new ArrayList<>(map.entrySet());
        if (sorted) {
          Python python = new Python(budget);
          entries.sort((a, b) -> python.compare(a.getKey(), b.getKey()));
        }
        for (Map.Entry<?, ?> entry : entries) {
          out.append(separator);
          newLine(level + 1);
          string(key(entry.getKey()));
          out.append(keySeparator);
          write(entry.getValue(), level + 1);
          separator = itemSeparator;
        }
        close('}', map.isEmpty(), level);
      }
      default -> throw unsupported(value);
    }
    budget.leave();
  }

  /** Keys of JSON are strings. */
  private static String key(Object key) {
    return switch (key) {
      case null -> "null";
      case String text -> text;
      case Double d -> Python.floatRepr(d);
      case Undefined undefined -> throw unsupported(undefined);
      default -> key.toString(); // of an integer, or of a boolean in lower case
    };
  }

  private static TemplateException unsupported(Object value) {
    return new TemplateException(
        "object of type " + Python.typeName(value) + " is not JSON serializable");
  }

  private void newLine(int level) {
    if (indent != null) {
      out.append('\n').repeat(indent, level);
    }
  }

  private void close(char bracket, boolean empty, int level) {
    if (!empty) {
      newLine(level);
    }
    out.append(bracket);
  }

  private void string(String text) {
    budget.charge(text.length());
    out.append('"');
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      switch (c) {
        case '"' -> out.append("\\\"");
        case '\\' -> out.append("\\\\");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        case '\b' -> out.append("\\b");
        case '\f' -> out.append("\\f");
        default -> {
          if (c < 0x20 || (ascii && c > 0x7e)) {
            out.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
          } else {
            out.append(c);
          }
        }
      }
    }
    out.append('"');
  }
}
