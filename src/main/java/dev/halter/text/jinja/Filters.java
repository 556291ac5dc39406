package dev.halter.text.jinja;

import static dev.halter.text.jinja.Function.Arguments.ABSENT;

import dev.halter.text.jinja.Function.Arguments;
import dev.halter.text.jinja.Sequences.Generator;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.UnaryOperator;

/** Jinja's filters that chat templates use, {@code tojson} as transformers overrides it. */
final class Filters {
  private final Interpreter interpreter;
  private final Python python;
  private final Methods methods;
  private final Budget budget;

  Filters(Interpreter interpreter, Python python, Methods methods, Budget budget) {
    this.interpreter = interpreter;
    this.python = python;
    this.methods = methods;
    this.budget = budget;
  }

  /** {@code value | name(arguments)}. */
  Object apply(String name, Object value, Arguments arguments) {
    return switch (name) {
      case "trim" ->
          methods.strip(python.str(value), arguments.bind(name, 0, "chars")[0], true, true);
      case "upper" -> text(name, value, arguments).toUpperCase(Locale.ROOT);
      case "lower" -> text(name, value, arguments).toLowerCase(Locale.ROOT);
      case "capitalize" -> methods.capitalize(text(name, value, arguments));
      case "title" -> title(text(name, value, arguments));
      case "string" -> text(name, value, arguments);
      case "safe" -> new Markup(text(name, value, arguments));
      case "length", "count" -> {
        arguments.bind(name, 0);
        yield (long) python.length(value);
      }
      case "list" -> {
        arguments.bind(name, 0);
        yield python.iterate(value);
      }
      case "default", "d" -> otherwise(name, value, arguments);
      case "first" -> first(value, arguments);
      case "last" -> last(value, arguments);
      case "join" -> join(value, arguments);
      case "replace" -> replace(value, arguments);
      case "items" -> items(value, arguments);
      case "reverse" -> reverse(value, arguments);
      case "sort" -> sort(value, arguments);
      case "dictsort" -> dictionarySort(value, arguments);
      case "groupby" -> group(value, arguments);
      case "wordcount" -> words(text(name, value, arguments));
      case "map" -> map(value, arguments);
      case "select" -> select(value, arguments, true);
      case "reject" -> select(value, arguments, false);
      case "selectattr" -> selectAttribute(value, arguments, true);
      case "rejectattr" -> selectAttribute(value, arguments, false);
      case "int" -> toInt(value, arguments);
      case "float" -> toFloat(value, arguments);
      case "abs" -> {
        arguments.bind(name, 0);
        yield absolute(value);
      }
      case "tojson" -> toJson(value, arguments);
      default -> throw new TemplateException("unsupported filter " + name);
    };
  }

  private String text(String name, Object value, Arguments arguments) {
    arguments.bind(name, 0);
    return python.charged(python.str(value));
  }

  /** Unlike str.title: words begin behind blanks, dashes and opening brackets only. */
  private static String title(String text) {
    StringBuilder out = new StringBuilder();
    boolean begins = true;
    for (int c : text.codePoints().toArray()) {
      String letter = Character.toString(c);
      out.append(begins ? letter.toUpperCase(Locale.ROOT) : letter.toLowerCase(Locale.ROOT));
      begins = Python.isSpace(c) || "-({[<".indexOf(c) >= 0;
    }
    return out.toString();
  }

  private Object otherwise(String name, Object value, Arguments arguments) {
    Object[] bound = arguments.bind(name, 0, "default_value", "boolean");
    boolean falseToo = bound[1] != ABSENT && Python.truth(bound[1]);
    boolean missing = value instanceof Undefined || (falseToo && !Python.truth(value));
    return !missing ? value : bound[0] == ABSENT ? "" : bound[0];
  }

  private Object first(Object value, Arguments arguments) {
    arguments.bind("first", 0);
    if (value instanceof Generator generator) {
      Object[] first = generator.next();
      return first == null ? new Undefined("no first item in an empty sequence") : first[0];
    }
    List<Object> items = python.iterate(value);
    return items.isEmpty() ? new Undefined("no first item in an empty sequence") : items.getFirst();
  }

  private Object last(Object value, Arguments arguments) {
    arguments.bind("last", 0);
    if (value instanceof Generator) {
      throw new TemplateException("'generator' object is not reversible");
    }
    List<Object> items = python.iterate(value);
    return items.isEmpty() ? new Undefined("no last item in an empty sequence") : items.getLast();
  }

  private String join(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("join", 0, "d", "attribute");
    String separator = bound[0] == ABSENT ? "" : python.str(bound[0]);
    StringBuilder out = new StringBuilder();
    String before = "";
    for (Object item : python.iterate(value)) {
      Object part = bound[1] == ABSENT || bound[1] == null ? item : path(item, bound[1]);
      String text = python.str(part);
      budget.charge((long) before.length() + text.length());
      out.append(before).append(text);
      before = separator;
    }
    return out.toString();
  }

  private String replace(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("replace", 2, "old", "new", "count");
    boolean all = bound[2] == ABSENT || bound[2] == null;
    long count = all ? -1 : Methods.integer("replace", bound[2]);
    return methods.replace(python.str(value), python.str(bound[0]), python.str(bound[1]), count);
  }

  private Object items(Object value, Arguments arguments) {
    arguments.bind("items", 0);
    if (value instanceof Undefined) {
      return new Generator(List.of());
    }
    if (value instanceof Map<?, ?> map) {
      return new Generator(methods.items(map));
    }
    throw new TemplateException("can only get item pairs from a mapping");
  }

  private Object reverse(Object value, Arguments arguments) {
    arguments.bind("reverse", 0);
    if (value instanceof String text) {
      return new StringBuilder(python.charged(text)).reverse().toString();
    }
    List<Object> items = new ArrayList<>(python.iterate(value));
    Collections.reverse(items);
    return value instanceof Generator ? items : new Generator(items);
  }

  private Object sort(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("sort", 0, "reverse", "case_sensitive", "attribute");
    boolean whole = bound[2] == ABSENT || bound[2] == null;
    return items(
        sorted(
            python.iterate(value),
            item -> whole ? item : path(item, bound[2]),
            isSet(bound[1]),
            isSet(bound[0])));
  }

  private static boolean isSet(Object flag) {
    return flag != ABSENT && Python.truth(flag);
  }

  /** An item and what it is ordered by. */
  private record Keyed(Object key, Object item) {}

  private List<Keyed> sorted(
      List<Object> items, UnaryOperator<Object> key, boolean caseSensitive, boolean descending) {
    List<Keyed> keyed = new ArrayList<>();
    for (Object item : items) {
      Object of = key.apply(item);
      boolean fold = !caseSensitive && of instanceof String;
      keyed.add(new Keyed(fold ? ((String) of).toLowerCase(Locale.ROOT) : of, item));
    }
    keyed.sort(
        (a, b) -> descending ? python.compare(b.key(), a.key()) : python.compare(a.key(), b.key()));
    return keyed;
  }

  private static List<Object> items(List<Keyed> keyed) {
    List<Object> items = new ArrayList<>();
    keyed.forEach(entry -> items.add(entry.item()));
    return items;
  }

  private Object dictionarySort(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("dictsort", 0, "case_sensitive", "by", "reverse");
    Object by = bound[1] == ABSENT ? "key" : bound[1];
    if (!"key".equals(by) && !"value".equals(by)) {
      throw new TemplateException("dictsort sorts by \"key\" or \"value\"");
    }
    if (!(value instanceof Map<?, ?> map)) {
      throw new TemplateException("dictsort of '" + Python.typeName(value) + "'");
    }
    int part = by.equals("key") ? 0 : 1;
    return items(
        sorted(
            new ArrayList<>(methods.items(map)),
            pair -> ((Sequences.Tuple) pair).get(part),
            isSet(bound[0]),
            isSet(bound[2])));
  }

  /**
   * Items with one attribute together, in the order of the attribute; named as the first has it.
   */
  private Object group(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("groupby", 1, "attribute", "default", "case_sensitive");
    Object otherwise = bound[1] == ABSENT ? null : bound[1];
    UnaryOperator<Object> attribute = item -> path(item, bound[0], otherwise);
    List<Object> groups = new ArrayList<>();
    List<Object> group = new ArrayList<>();
    Object key = null;
    for (Keyed entry : sorted(python.iterate(value), attribute, isSet(bound[2]), false)) {
      if (!group.isEmpty() && !python.equal(key, entry.key())) {
        groups.add(new Sequences.Group(attribute.apply(group.getFirst()), group));
        group = new ArrayList<>();
      }
      key = entry.key();
      group.add(entry.item());
    }
    if (!group.isEmpty()) {
      groups.add(new Sequences.Group(attribute.apply(group.getFirst()), group));
    }
    return groups;
  }

  /** As {@code \w+} finds them: runs of letters, numbers and underscores. */
  private static Object words(String text) {
    long words = 0;
    boolean within = false;
    for (int c : text.codePoints().toArray()) {
      boolean part =
          c == '_'
              || Character.isLetter(c)
              || Character.isDigit(c)
              || Character.getType(c) == Character.LETTER_NUMBER
              || Character.getType(c) == Character.OTHER_NUMBER;
      words += part && !within ? 1 : 0;
      within = part;
    }
    return words;
  }

  private Object map(Object value, Arguments arguments) {
    if (!Python.truth(value)) {
      return new Generator(List.of());
    }
    List<Object> mapped = new ArrayList<>();
    if (arguments.positional().isEmpty()) {
      Object[] bound = arguments.bind("map", 1, "attribute", "default");
      for (Object item : python.iterate(value)) {
        mapped.add(path(item, bound[0], bound[1] == ABSENT ? null : bound[1]));
      }
    } else {
      String filter = name("map", arguments);
      for (Object item : python.iterate(value)) {
        budget.charge(Budget.NODE);
        mapped.add(apply(filter, item, arguments.skip(1)));
      }
    }
    return new Generator(mapped);
  }

  private static String name(String function, Arguments arguments) {
    if (arguments.positional().getFirst() instanceof String name) {
      return name;
    }
    throw new TemplateException(function + " needs a name");
  }

  /** Jinja walks no false value here, such as none, and looks at no argument then. */
  private Object select(Object value, Arguments arguments, boolean wanted) {
    if (!Python.truth(value)) {
      return new Generator(List.of());
    }
    List<Object> selected = new ArrayList<>();
    for (Object item : python.iterate(value)) {
      if (passes(item, arguments) == wanted) {
        selected.add(item);
      }
    }
    return new Generator(selected);
  }

  private Object selectAttribute(Object value, Arguments arguments, boolean wanted) {
    if (!Python.truth(value)) {
      return new Generator(List.of());
    }
    if (arguments.positional().isEmpty()) {
      throw new TemplateException("selectattr and rejectattr need an attribute");
    }
    Object attribute = arguments.positional().getFirst();
    List<Object> selected = new ArrayList<>();
    for (Object item : python.iterate(value)) {
      if (passes(path(item, attribute), arguments.skip(1)) == wanted) {
        selected.add(item);
      }
    }
    return new Generator(selected);
  }

  /** The test named by the first argument, or truth where there is none. */
  private boolean passes(Object value, Arguments arguments) {
    budget.charge(Budget.NODE);
    return arguments.positional().isEmpty()
        ? Python.truth(value)
        : interpreter.test(name("a test", arguments), value, arguments.skip(1));
  }

  private Object path(Object item, Object attribute) {
    return path(item, attribute, null);
  }

  /**
   * {@code attribute} is a position or names joined by dots; whatever is undefined on the way
   * becomes {@code otherwise}, unless that is null.
   */
  private Object path(Object item, Object attribute, Object otherwise) {
    List<Object> steps = new ArrayList<>();
    if (attribute instanceof String names) {
      for (String name : names.split("\\.", -1)) {
        boolean isPosition = name.length() < 10 && name.matches("[0-9]+");
        steps.add(isPosition ? (Object) Long.valueOf(name) : name);
      }
    } else {
      steps.add(attribute);
    }
    Object value = item;
    for (Object step : steps) {
      value = interpreter.item(value, step);
      if (value instanceof Undefined && otherwise != null) {
        value = otherwise;
      }
    }
    return value;
  }

  private static Object toInt(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("int", 0, "default");
    Object otherwise = bound[0] == ABSENT ? Long.valueOf(0) : bound[0];
    Object number = parse(value);
    if (number instanceof Double d && Math.abs(d) < 0x1p62) {
      return d.longValue();
    }
    return number instanceof Long ? number : otherwise;
  }

  private static Object toFloat(Object value, Arguments arguments) {
    Object[] bound = arguments.bind("float", 0, "default");
    Object number = parse(value);
    return number != null
        ? Double.valueOf(Python.toDouble(number))
        : bound[0] == ABSENT ? Double.valueOf(0) : bound[0];
  }

  /** The plain decimal number that {@code value} is or spells, or null. */
  private static Object parse(Object value) {
    if (Python.isNumber(value)) {
      return Python.number(value);
    }
    if (value instanceof Undefined undefined) {
      throw undefined.failure();
    }
    if (!(value instanceof String text)) {
      return null;
    }
    String spelling = Python.strip(text, true, true);
    if (spelling.matches("[+-]?[0-9]{1,18}")) {
      return Long.parseLong(spelling);
    }
    return spelling.length() < 400 && spelling.matches("[+-]?[0-9]*\\.?[0-9]+(e[+-]?[0-9]+)?")
        ? Double.valueOf(spelling)
        : null;
  }

  private static Object absolute(Object value) {
    Object number = Python.number(value);
    if (number instanceof Long l) {
      return Math.absExact(l);
    }
    if (number instanceof Double d) {
      return Math.abs(d);
    }
    throw new TemplateException("bad operand type for abs(): '" + Python.typeName(value) + "'");
  }

  private String toJson(Object value, Arguments arguments) {
    Object[] bound =
        arguments.bind("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
    String indent = null;
    if (bound[1] instanceof String text) {
      indent = text;
    } else if (bound[1] instanceof Long width && width >= 0 && width <= 64) {
      indent = " ".repeat(Math.toIntExact(width));
    } else if (bound[1] != ABSENT && bound[1] != null) {
      throw new TemplateException("unsupported indent of tojson");
    }
    String itemSeparator = null;
    String keySeparator = null;
    if (bound[2] instanceof List<?> pair
        && pair.size() == 2
        && pair.get(0) instanceof String first
        && pair.get(1) instanceof String second) {
      itemSeparator = first;
      keySeparator = second;
    } else if (bound[2] != ABSENT && bound[2] != null) {
      throw new TemplateException("unsupported separators of tojson");
    }
    boolean ascii = bound[0] != ABSENT && Python.truth(bound[0]);
    boolean sorted = bound[3] != ABSENT && Python.truth(bound[3]);
    return new PythonJson(budget, indent, ascii, sorted, itemSeparator, keySeparator).dump(value);
  }
}
