package dev.halter.text.jinja;

import dev.halter.text.jinja.Node.Statement;
import dev.halter.text.jinja.Sequences.Range;
import java.math.BigInteger;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * A parsed Jinja template, of the subset that chat templates use. It prints what Jinja2 3.1 prints
 * under transformers' settings (trim_blocks, lstrip_blocks, loop controls, its own {@code tojson},
 * {@code raise_exception} and {@code strftime_now}), and refuses with a {@link TemplateException}
 * whatever it does not know, so that a prompt is right or there is none.
 *
 * <p>Immutable; one template may be rendered by several threads at once.
 */
public final class Template {
  /** Jinja2's own bound in its sandbox. */
  private static final int MAX_RANGE = 100_000;

  /** Jinja2's other global functions: a template that calls one must not see it as undefined. */
  private static final List<String> UNSUPPORTED_GLOBALS = List.of("cycler", "joiner", "lipsum");

  private final List<Statement> body;

  private Template(List<Statement> body) {
    this.body = body;
  }

  /**
   * Parses {@code source}.
   *
   * @throws TemplateException if it is no template or uses a tag outside of the subset
   */
  public static Template parse(String source) {
    return new Template(Parser.parse(source));
  }

  /**
   * Renders the template over {@code variables}: null, booleans, integral and floating numbers,
   * strings, lists of these and maps from strings to these.
   *
   * @param now the time that {@code strftime_now} prints
   * @throws TemplateException if the template raises an error, uses what is not supported or needs
   *     more work or text than is reasonable for its input
   */
  public String render(Map<String, ?> variables, Supplier<ZonedDateTime> now) {
    Inputs inputs = new Inputs();
    Map<String, Object> names = new HashMap<>();
    for (String name : UNSUPPORTED_GLOBALS) {
      names.put(name, refusal(name));
    }
    names.put("range", (Function) Template::range);
    names.put("dict", (Function) arguments -> fields("dict", arguments));
    names.put(
        "namespace",
        (Function) arguments -> new Interpreter.Namespace(fields("namespace", arguments)));
    names.put("raise_exception", (Function) Template::raise);
    names.put(
        "strftime_now",
        (Function)
            arguments -> {
              Object format = arguments.bind("strftime_now", 1, "format")[0];
              if (format instanceof String text && text.length() < 1000) {
                return Strftime.format(text, now.get());
              }
              throw new TemplateException("strftime_now needs a short string");
            });
    variables.forEach((name, value) -> names.put(name, inputs.normal(value)));
    return new Interpreter(new Budget(inputs.units), names).render(body);
  }

  private static Function refusal(String name) {
    return arguments -> {
      throw new TemplateException("unsupported function " + name);
    };
  }

  private static Object raise(Function.Arguments arguments) {
    Object message = arguments.bind("raise_exception", 1, "message")[0];
    throw new TemplateException(message instanceof String text ? text : "raise_exception");
  }

  private static Map<String, Object> fields(String function, Function.Arguments arguments) {
    if (!arguments.positional().isEmpty()) {
      throw new TemplateException("unsupported: positional arguments of " + function);
    }
    return new LinkedHashMap<>(arguments.named());
  }

  private static Object range(Function.Arguments arguments) {
    Object[] bound = arguments.bind("range", 1, "start", "stop", "step");
    long first = Methods.integer("range", bound[0]);
    boolean onlyStop = bound[1] == Function.Arguments.ABSENT;
    long start = onlyStop ? 0 : first;
    long stop = onlyStop ? first : Methods.integer("range", bound[1]);
    long step = bound[2] == Function.Arguments.ABSENT ? 1 : Methods.integer("range", bound[2]);
    if (step == 0) {
      throw new TemplateException("range() with a step of zero");
    }
    long limit = 1L << 40;
    if (Math.max(Math.abs(start), Math.max(Math.abs(stop), Math.abs(step))) > limit) {
      throw new TemplateException("range() is too large");
    }
    long size = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
    if (size > MAX_RANGE) {
      throw new TemplateException("range() is longer than " + MAX_RANGE);
    }
    return new Range(start, step, (int) Math.max(size, 0));
  }

  /** Turns Java's values into the interpreter's and counts their size. */
  private static final class Inputs {
    private long units;

    Object normal(Object value) {
      units += Budget.NODE;
      return switch (value) {
        case null -> null;
        case Boolean b -> b;
        case Integer i -> (long) i;
        case Long l -> l;
        case BigInteger big ->
            throw new TemplateException("unsupported: an integer of more than 64 bits");
        case Float f -> (double) f;
        case Double d -> d;
        case String s -> {
          units += s.length();
          yield s;
        }
        case List<?> list -> {
          List<Object> items = new ArrayList<>();
          list.forEach(item -> items.add(normal(item)));
          yield items;
        }
        case Map<?, ?> map -> {
          Map<String, Object> entries = new LinkedHashMap<>();
          map.forEach((key, item) -> entries.put((String) normal(key), normal(item)));
          yield entries;
        }
        default ->
            throw new IllegalArgumentException(
                "a template variable cannot be a " + value.getClass().getName());
      };
    }
  }
}
