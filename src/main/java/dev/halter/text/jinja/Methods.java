package dev.halter.text.jinja;

import static dev.halter.text.jinja.Function.Arguments.ABSENT;

import dev.halter.text.jinja.Sequences.Tuple;
import dev.halter.text.jinja.Sequences.View;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** The methods of Python's strings and dictionaries that templates call. */
final class Methods {
  /**
   * Python's other public methods. A template that names one gets an error, since "no such
   * attribute" would let it go on with a wrong answer.
   */
  private static final Set<String> UNSUPPORTED_STRING =
      Set.of(
          "casefold",
          "center",
          "encode",
          "expandtabs",
          "format",
          "format_map",
          "index",
          "isalnum",
          "isalpha",
          "isascii",
          "isdecimal",
          "isdigit",
          "isidentifier",
          "islower",
          "isnumeric",
          "isprintable",
          "isspace",
          "istitle",
          "isupper",
          "ljust",
          "maketrans",
          "partition",
          "rindex",
          "rjust",
          "rpartition",
          "swapcase",
          "translate",
          "zfill");

  private static final Set<String> UNSUPPORTED_DICT =
      Set.of("clear", "copy", "fromkeys", "pop", "popitem", "setdefault", "update");

  private static final Set<String> UNSUPPORTED_LIST =
      Set.of(
          "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
          "reverse", "sort");

  private final Python python;
  private final Budget budget;

  Methods(Python python, Budget budget) {
    this.python = python;
    this.budget = budget;
  }

  /** The method {@code name} of {@code target}, or null if it has none of that name. */
  Function find(Object target, String name) {
    if (target instanceof String text) {
      refuse(UNSUPPORTED_STRING, "str", name);
      return ofString(text, name);
    }
    if (target instanceof Map<?, ?> map) {
      refuse(UNSUPPORTED_DICT, "dict", name);
      return ofDict(map, name);
    }
    if (target instanceof List<?>) {
      refuse(UNSUPPORTED_LIST, "list", name);
    }
    return null;
  }

  private static void refuse(Set<String> unsupported, String type, String name) {
    if (unsupported.contains(name) || name.startsWith("__")) {
      throw new TemplateException("unsupported method " + type + "." + name);
    }
  }

  private Function ofDict(Map<?, ?> map, String name) {
    return switch (name) {
      case "items" ->
          arguments -> {
            arguments.bind("items", 0);
            return items(map);
          };
      case "keys" ->
          arguments -> {
            arguments.bind("keys", 0);
            return new View(new ArrayList<>(map.keySet()));
          };
      case "values" ->
          arguments -> {
            arguments.bind("values", 0);
            return new View(new ArrayList<>(map.values()));
          };
      case "get" ->
          arguments -> {
            Object[] bound = arguments.bind("get", 1, "key", "default");
            Object otherwise = bound[1] == ABSENT ? null : bound[1];
            return Python.has(map, bound[0]) ? map.get(Python.key(map, bound[0])) : otherwise;
          };
      default -> null;
    };
  }

  /** A dict's pairs of key and value. */
  View items(Map<?, ?> map) {
    List<Object> pairs = new ArrayList<>();
    budget.charge(4L * map.size() * Budget.ELEMENT);
    for (Map.Entry<?, ?> entry : map.entrySet()) {
      List<Object> pair = new ArrayList<>();
      pair.add(entry.getKey());
      pair.add(entry.getValue());
      pairs.add(new Tuple(pair));
    }
    return new View(pairs);
  }

  private Function ofString(String text, String name) {
    return switch (name) {
      case "strip" -> arguments -> strip(text, arguments, true, true);
      case "lstrip" -> arguments -> strip(text, arguments, true, false);
      case "rstrip" -> arguments -> strip(text, arguments, false, true);
      case "split" -> arguments -> split(text, arguments);
      case "rsplit" -> arguments -> rsplit(text, arguments);
      case "splitlines" -> arguments -> splitLines(text, arguments);
      case "startswith" -> arguments -> fits(text, arguments, true);
      case "endswith" -> arguments -> fits(text, arguments, false);
      case "replace" ->
          arguments -> {
            Object[] bound = arguments.bind("replace", 2, "old", "new", "count");
            long count = bound[2] == ABSENT ? -1 : integer("replace", bound[2]);
            return replace(text, string("replace", bound[0]), string("replace", bound[1]), count);
          };
      case "upper" -> noArguments(name, () -> python.charged(text).toUpperCase(Locale.ROOT));
      case "lower" -> noArguments(name, () -> python.charged(text).toLowerCase(Locale.ROOT));
      case "title" -> noArguments(name, () -> title(text));
      case "capitalize" -> noArguments(name, () -> capitalize(text));
      case "removeprefix" ->
          arguments -> {
            String prefix = string(name, arguments.bind(name, 1, "prefix")[0]);
            return python.charged(text).startsWith(prefix) ? text.substring(prefix.length()) : text;
          };
      case "removesuffix" ->
          arguments -> {
            String suffix = string(name, arguments.bind(name, 1, "suffix")[0]);
            return python.charged(text).endsWith(suffix)
                ? text.substring(0, text.length() - suffix.length())
                : text;
          };
      case "find" ->
          arguments -> {
            String part = string(name, arguments.bind(name, 1, "sub")[0]);
            return position(text, search(text, part, 0));
          };
      case "rfind" ->
          arguments -> {
            String part = string(name, arguments.bind(name, 1, "sub")[0]);
            budget.chargeSearch(text.length(), part.length());
            return position(text, text.lastIndexOf(part));
          };
      case "count" ->
          arguments -> {
            String part = string(name, arguments.bind(name, 1, "sub")[0]);
            if (part.isEmpty()) {
              return (long) python.length(text) + 1;
            }
            return (long) cut(text, part, -1).size() - 1;
          };
      case "join" ->
          arguments -> {
            List<Object> parts = python.iterate(arguments.bind(name, 1, "iterable")[0]);
            StringBuilder out = new StringBuilder();
            for (int i = 0; i < parts.size(); i++) {
              String part = string(name, parts.get(i));
              budget.charge((long) text.length() + part.length());
              out.append(i == 0 ? "" : text).append(part);
            }
            return out.toString();
          };
      default -> null;
    };
  }

  private static Function noArguments(String name, java.util.function.Supplier<String> result) {
    return arguments -> {
      arguments.bind(name, 0);
      return result.get();
    };
  }

  private static String string(String function, Object value) {
    if (value instanceof String text) {
      return text;
    }
    throw new TemplateException(function + " needs a string, not " + Python.typeName(value));
  }

  static long integer(String function, Object value) {
    if (Python.number(value) instanceof Long number) {
      return number;
    }
    throw new TemplateException(function + " needs an integer, not " + Python.typeName(value));
  }

  /** indexOf, charged at its worst case for what it looked at. */
  private int search(String text, String part, int from) {
    int found = text.indexOf(part, from);
    int walked = (found < 0 ? text.length() : found + part.length()) - from;
    budget.chargeSearch(Math.max(walked, 0), part.length());
    return found;
  }

  private Long position(String text, int found) {
    budget.charge(text.length());
    return found < 0 ? -1L : (long) text.codePointCount(0, found);
  }

  private String strip(String text, Function.Arguments arguments, boolean left, boolean right) {
    Object set = arguments.bind("strip", 0, "chars")[0];
    return strip(text, set, left, right);
  }

  /** Without {@code set} (or None) whitespace goes, else every character that is in it. */
  String strip(String text, Object set, boolean left, boolean right) {
    python.charged(text);
    if (set == ABSENT || set == null) {
      return Python.strip(text, left, right);
    }
    String characters = string("strip", set);
    int start = 0;
    int end = text.length();
    while (left && start < end && isOneOf(characters, text.codePointAt(start))) {
      start += Character.charCount(text.codePointAt(start));
    }
    while (right && end > start && isOneOf(characters, text.codePointBefore(end))) {
      end -= Character.charCount(text.codePointBefore(end));
    }
    return text.substring(start, end);
  }

  private boolean isOneOf(String characters, int codePoint) {
    budget.charge(characters.length());
    return characters.indexOf(codePoint) >= 0;
  }

  private List<Object> split(String text, Function.Arguments arguments) {
    Object[] bound = arguments.bind("split", 0, "sep", "maxsplit");
    long limit = bound[1] == ABSENT ? -1 : integer("split", bound[1]);
    if (bound[0] != ABSENT && bound[0] != null) {
      return cut(text, separator(bound[0]), limit);
    }
    List<Object> words = new ArrayList<>();
    String rest = Python.strip(python.charged(text), true, false);
    while (!rest.isEmpty()) {
      int end = 0;
      while (end < rest.length() && !Python.isSpace(rest.charAt(end))) {
        end++;
      }
      if (limit >= 0 && words.size() >= limit) {
        words.add(rest);
        break;
      }
      words.add(rest.substring(0, end));
      rest = Python.strip(python.charged(rest.substring(end)), true, false);
      budget.charge(Budget.ELEMENT);
    }
    return words;
  }

  private static String separator(Object value) {
    String separator = string("split", value);
    if (separator.isEmpty()) {
      throw new TemplateException("empty separator");
    }
    return separator;
  }

  /** {@code text} cut at the first {@code limit} separators, at all of them for a negative one. */
  private List<Object> cut(String text, String separator, long limit) {
    List<Object> parts = new ArrayList<>();
    int from = 0;
    int at = limit == 0 ? -1 : search(text, separator, 0);
    while (at >= 0) {
      parts.add(text.substring(from, at));
      budget.charge(at - from + Budget.ELEMENT);
      from = at + separator.length();
      at = limit >= 0 && parts.size() >= limit ? -1 : search(text, separator, from);
    }
    parts.add(python.charged(text.substring(from)));
    return parts;
  }

  private List<Object> rsplit(String text, Function.Arguments arguments) {
    Object[] bound = arguments.bind("rsplit", 0, "sep", "maxsplit");
    long limit = bound[1] == ABSENT ? -1 : integer("rsplit", bound[1]);
    if (limit < 0) {
      return split(text, new Function.Arguments(java.util.Arrays.asList(bound[0]), Map.of()));
    }
    if (bound[0] == ABSENT || bound[0] == null) {
      throw new TemplateException("unsupported: rsplit at whitespace with maxsplit");
    }
    String separator = separator(bound[0]);
    List<Object> parts = new ArrayList<>();
    int end = text.length();
    int at = limit == 0 ? -1 : text.lastIndexOf(separator);
    while (at >= 0) {
      parts.addFirst(text.substring(at + separator.length(), end));
      budget.chargeSearch(end - at, separator.length());
      budget.charge(Budget.ELEMENT + parts.size());
      end = at;
      at =
          parts.size() >= limit || end < separator.length()
              ? -1
              : text.lastIndexOf(separator, end - separator.length());
    }
    budget.chargeSearch(end, separator.length());
    parts.addFirst(text.substring(0, end));
    return parts;
  }

  private List<Object> splitLines(String text, Function.Arguments arguments) {
    Object keep = arguments.bind("splitlines", 0, "keepends")[0];
    boolean keepEnds = keep != ABSENT && Python.truth(keep);
    List<Object> lines = new ArrayList<>();
    int start = 0;
    while (start < text.length()) {
      int end = start;
      while (end < text.length() && !isLineEnd(text.charAt(end))) {
        end++;
      }
      int next = Math.min(end + 1, text.length());
      if (text.startsWith("\r\n", end)) {
        next = end + 2;
      }
      lines.add(text.substring(start, keepEnds ? next : end));
      budget.charge(next - start + Budget.ELEMENT);
      start = next;
    }
    return lines;
  }

  private static boolean isLineEnd(char c) {
    return (c >= '\n' && c <= '\r')
        || (c >= 0x1c && c <= 0x1e)
        || c == 0x85
        || c == 0x2028
        || c == 0x2029;
  }

  private boolean fits(String text, Function.Arguments arguments, boolean start) {
    String function = start ? "startswith" : "endswith";
    Object wanted = arguments.bind(function, 1, "prefix")[0];
    List<?> options = wanted instanceof Tuple tuple ? tuple : java.util.Arrays.asList(wanted);
    for (Object option : options) {
      String part = string(function, option);
      budget.charge(part.length());
      if (start ? text.startsWith(part) : text.endsWith(part)) {
        return true;
      }
    }
    return false;
  }

  String replace(String text, String old, String replacement, long limit) {
    if (old.isEmpty()) {
      throw new TemplateException("unsupported: replacing the empty string");
    }
    List<Object> parts = cut(text, old, limit);
    budget.charge(text.length() + (long) parts.size() * replacement.length());
    StringBuilder out = new StringBuilder((String) parts.getFirst());
    for (Object part : parts.subList(1, parts.size())) {
      out.append(replacement).append((String) part);
    }
    return out.toString();
  }

  /** Every letter behind a letter becomes small, every other one a capital. */
  private String title(String text) {
    StringBuilder out = new StringBuilder();
    boolean behindLetter = false;
    for (int c : python.charged(text).codePoints().toArray()) {
      out.appendCodePoint(behindLetter ? Character.toLowerCase(c) : Character.toTitleCase(c));
      behindLetter =
          Character.isUpperCase(c) || Character.isLowerCase(c) || Character.isTitleCase(c);
    }
    return out.toString();
  }

  String capitalize(String text) {
    if (python.charged(text).isEmpty()) {
      return text;
    }
    int first = text.codePointAt(0);
    return Character.toString(Character.toTitleCase(first))
        + text.substring(Character.charCount(first)).toLowerCase(Locale.ROOT);
  }
}
