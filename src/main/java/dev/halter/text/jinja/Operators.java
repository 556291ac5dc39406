package dev.halter.text.jinja;

import dev.halter.text.jinja.Function.Arguments;
import dev.halter.text.jinja.Sequences.Generator;
import dev.halter.text.jinja.Sequences.Tuple;
import dev.halter.text.jinja.Sequences.View;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Python's operators and Jinja's tests ({@code x is name}). */
final class Operators {
  private final Python python;
  private final Budget budget;

  Operators(Python python, Budget budget) {
    this.python = python;
    this.budget = budget;
  }

  Object unary(String operator, Object operand) {
    if (operator.equals("not")) {
      return !Python.truth(operand);
    }
    Object number = Python.number(operand);
    if (number instanceof Long l) {
      return operator.equals("-") ? Math.negateExact(l) : number;
    }
    if (number instanceof Double d) {
      return operator.equals("-") ? -d : number;
    }
    if (operand instanceof Undefined undefined) {
      throw undefined.failure();
    }
    throw new TemplateException(
        "unsupported operand of unary " + operator + ": '" + Python.typeName(operand) + "'");
  }

  Object binary(String operator, Object left, Object right) {
    if (operator.equals("~")) {
      return concatenate(python.str(left), python.str(right));
    }
    if (left instanceof Undefined u) {
      throw u.failure();
    }
    if (right instanceof Undefined u) {
      throw u.failure();
    }
    if (Python.isNumber(left) && Python.isNumber(right)) {
      return arithmetic(operator, Python.number(left), Python.number(right));
    }
    return switch (operator) {
      case "+" -> {
        if (left instanceof String a && right instanceof String b) {
          yield concatenate(a, b);
        }
        if (left instanceof Markup || right instanceof Markup) {
          yield new Markup(concatenate(marked(left, right), marked(right, left)));
        }
        if (isJoinable(left)
            && isJoinable(right)
            && left instanceof Tuple == right instanceof Tuple) {
          List<Object> joined = new ArrayList<>(python.charged((List<?>) left));
          joined.addAll(python.charged((List<?>) right));
          yield left instanceof Tuple ? new Tuple(joined) : joined;
        }
        throw unsupported(operator, left, right);
      }
      case "*" -> {
        if (left instanceof String text && Python.number(right) instanceof Long times) {
          yield repeat(text, times);
        }
        if (right instanceof String text && Python.number(left) instanceof Long times) {
          yield repeat(text, times);
        }
        throw unsupported(operator, left, right);
      }
      default -> throw unsupported(operator, left, right);
    };
  }

  /** A text that is added to another of which one is marked as safe. */
  private String marked(Object value, Object other) {
    return switch (value) {
      case Markup markup -> markup.text();
      case String text -> python.charged(Markup.escape(text));
      default -> throw unsupported("+", value, other);
    };
  }

  private static boolean isJoinable(Object value) {
    return value instanceof List<?>
        && !(value instanceof View)
        && !(value instanceof Sequences.Range);
  }

  private String concatenate(String left, String right) {
    budget.charge((long) left.length() + right.length());
    return left + right;
  }

  private String repeat(String text, long times) {
    budget.charge(
        text.isEmpty() ? 1 : Math.multiplyExact((long) text.length(), Math.max(times, 0)));
    return text.isEmpty() || times <= 0 ? "" : text.repeat(Math.toIntExact(times));
  }

  private static Object arithmetic(String operator, Object left, Object right) {
    if (left instanceof Long a && right instanceof Long b) {
      return switch (operator) {
        case "+" -> Math.addExact(a, b);
        case "-" -> Math.subtractExact(a, b);
        case "*" -> Math.multiplyExact(a, b);
        case "//" -> Math.floorDiv(a, b);
        case "%" -> Math.floorMod(a, b);
        case "**" -> power(a, b);
        default -> divide(a, b);
      };
    }
    double a = Python.toDouble(left);
    double b = Python.toDouble(right);
    return switch (operator) {
      case "+" -> a + b;
      case "-" -> a - b;
      case "*" -> a * b;
      case "/" -> divide(a, b);
      default -> throw unsupported(operator, left, right);
    };
  }

  private static double divide(double a, double b) {
    if (b == 0) {
      throw new ArithmeticException("division by zero");
    }
    return a / b;
  }

  private static long power(long base, long exponent) {
    if (exponent < 0 || exponent > 64) {
      throw new TemplateException("unsupported exponent " + exponent);
    }
    long result = 1;
    for (long i = 0; i < exponent; i++) {
      result = Math.multiplyExact(result, base);
    }
    return result;
  }

  boolean compare(String operator, Object left, Object right) {
    return switch (operator) {
      case "==" -> python.equal(left, right);
      case "!=" -> !python.equal(left, right);
      case "in" -> python.contains(right, left);
      case "not in" -> !python.contains(right, left);
      case "<" -> python.compare(left, right) < 0;
      case "<=" -> python.compare(left, right) <= 0;
      case ">" -> python.compare(left, right) > 0;
      default -> python.compare(left, right) >= 0;
    };
  }

  private static TemplateException unsupported(String operator, Object left, Object right) {
    return new TemplateException(
        "unsupported operands of "
            + operator
            + ": '"
            + Python.typeName(left)
            + "' and '"
            + Python.typeName(right)
            + "'");
  }

  /** {@code value is name(arguments)}. */
  boolean test(String name, Object value, Arguments arguments) {
    return switch (name) {
      case "eq", "equalto" -> compare("==", value, other(name, arguments));
      case "ne" -> compare("!=", value, other(name, arguments));
      case "lt", "lessthan" -> compare("<", value, other(name, arguments));
      case "le" -> compare("<=", value, other(name, arguments));
      case "gt", "greaterthan" -> compare(">", value, other(name, arguments));
      case "ge" -> compare(">=", value, other(name, arguments));
      case "in" -> compare("in", value, other(name, arguments));
      case "divisibleby" ->
          Math.floorMod(Methods.integer(name, value), Methods.integer(name, other(name, arguments)))
              == 0;
      default -> {
        boolean passed = testAlone(name, value);
        arguments.bind(name, 0);
        yield passed;
      }
    };
  }

  private static Object other(String name, Arguments arguments) {
    return arguments.bind(name, 1, "other")[0];
  }

  private boolean testAlone(String name, Object value) {
    return switch (name) {
      case "defined" -> !(value instanceof Undefined);
      case "undefined" -> value instanceof Undefined;
      case "none" -> value == null;
      case "string" -> value instanceof String;
      case "mapping" -> value instanceof Map<?, ?>;
      case "boolean" -> value instanceof Boolean;
      case "true" -> Boolean.TRUE.equals(value);
      case "false" -> Boolean.FALSE.equals(value);
      case "integer" -> value instanceof Long;
      case "float" -> value instanceof Double;
      case "number" -> Python.isNumber(value);
      case "odd" -> Math.floorMod(Methods.integer(name, value), 2L) == 1;
      case "even" -> Math.floorMod(Methods.integer(name, value), 2L) == 0;
      case "sequence" -> isCollection(value) && !(value instanceof View);
      case "iterable" -> isCollection(value) || value instanceof Generator;
      case "callable" -> value instanceof Function || value instanceof Undefined;
      case "lower" -> isCased(python.str(value), true);
      case "upper" -> isCased(python.str(value), false);
      default -> throw new TemplateException("unsupported test " + name);
    };
  }

  private static boolean isCollection(Object value) {
    return value instanceof String
        || value instanceof List<?>
        || value instanceof Map<?, ?>
        || value instanceof Undefined;
  }

  /** Whether {@code text} has letters and all that have a case have this one. */
  private boolean isCased(String text, boolean lower) {
    String folded = lower ? text.toLowerCase(Locale.ROOT) : text.toUpperCase(Locale.ROOT);
    String other = lower ? text.toUpperCase(Locale.ROOT) : text.toLowerCase(Locale.ROOT);
    return python.charged(text).equals(folded) && !text.equals(other);
  }
}
