package dev.halter.text.jinja;

import dev.halter.text.jinja.Function.Arguments;
import dev.halter.text.jinja.Node.Expression;
import dev.halter.text.jinja.Node.Statement;
import dev.halter.text.jinja.Node.Target;
import dev.halter.text.jinja.Sequences.Tuple;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Walks a template's tree once, for one rendering. */
final class Interpreter {
  /** The names of one level: the template, one round of a loop, or the call of a macro. */
  private record Scope(Map<String, Object> names, Scope outer) {
    Scope inner() {
      return new Scope(new HashMap<>(), this);
    }

    boolean has(String name) {
      return names.containsKey(name);
    }
  }

  /** {@code namespace(…)}: the one thing whose attributes templates can assign. */
  record Namespace(Map<String, Object> attributes) {}

  /** Why a list of statements ended. */
  private enum Flow {
    DONE,
    BREAK,
    CONTINUE
  }

  private final Budget budget;
  private final Python python;
  private final Methods methods;
  private final Filters filters;
  private final Operators operators;
  private final Scope globals;

  Interpreter(Budget budget, Map<String, Object> globals) {
    this.budget = budget;
    this.python = new Python(budget);
    this.methods = new Methods(python, budget);
    this.filters = new Filters(this, python, methods, budget);
    this.operators = new Operators(python, budget);
    this.globals = new Scope(globals, null);
  }

  String render(List<Statement> template) {
    StringBuilder out = new StringBuilder();
    run(template, globals.inner(), out);
    return out.toString();
  }

  // Statements

  private Flow run(List<Statement> statements, Scope scope, StringBuilder out) {
    for (Statement statement : statements) {
      Flow flow = run(statement, scope, out);
      if (flow != Flow.DONE) {
        return flow;
      }
    }
    return Flow.DONE;
  }

  private Flow run(Statement statement, Scope scope, StringBuilder out) {
    budget.enter();
    try {
      budget.charge(Budget.NODE);
      Flow flow = execute(statement, scope, out);
      budget.leave();
      return flow;
    } catch (TemplateException e) {
      throw e.at(statement.line());
    }
  }

  private Flow execute(Statement statement, Scope scope, StringBuilder out) {
    switch (statement) {
      case Node.Text text -> out.append(python.charged(text.text()));
      case Node.Output output ->
          out.append(python.charged(printed(operand(output.value(), scope))));
      case Node.If branches -> {
        for (Node.Branch branch : branches.branches()) {
          if (Python.truth(evaluate(branch.condition(), scope))) {
            return run(branch.body(), scope, out);
          }
        }
        return run(branches.otherwise(), scope, out);
      }
      case Node.For loop -> loop(loop, scope, out);
      case Node.Set set -> assign(set.target(), evaluate(set.value(), scope), scope);
      case Node.SetBlock set -> {
        StringBuilder text = new StringBuilder();
        Flow flow = run(set.body(), scope.inner(), text);
        if (flow != Flow.DONE) {
          return flow;
        }
        Object value = text.toString();
        assign(set.target(), filtered(set.filters(), value, scope), scope);
      }
      case Node.FilterBlock block -> {
        StringBuilder text = new StringBuilder();
        Flow flow = run(block.body(), scope.inner(), text);
        if (flow != Flow.DONE) {
          return flow;
        }
        Object value = filtered(block.filters(), text.toString(), scope);
        out.append(python.charged(python.str(value)));
      }
      case Node.CallBlock block -> {
        Object function = evaluate(block.call().function(), scope);
        Arguments arguments = arguments(block.call().arguments(), scope);
        Object value = call(function, arguments.with("caller", macro(block.caller(), scope)));
        out.append(python.charged(python.str(value)));
      }
      case Node.MacroDefinition macro -> scope.names().put(macro.name(), macro(macro, scope));
      case Node.Generation generation -> {
        return run(generation.body(), scope.inner(), out);
      }
      case Node.Break b -> {
        return Flow.BREAK;
      }
      case Node.Continue c -> {
        return Flow.CONTINUE;
      }
    }
    return Flow.DONE;
  }

  private void loop(Node.For loop, Scope scope, StringBuilder out) {
    List<Object> items = python.iterate(evaluate(loop.iterable(), scope));
    if (loop.condition() != null) {
      List<Object> chosen = new ArrayList<>();
      for (Object item : items) {
        Scope round = scope.inner();
        assign(loop.target(), item, round);
        if (Python.truth(evaluate(loop.condition(), round))) {
          chosen.add(item);
        }
      }
      items = chosen;
    }
    for (int i = 0; i < items.size(); i++) {
      budget.charge(Budget.NODE);
      Scope round = scope.inner();
      round.names().put("loop", new Loop(items, i));
      assign(loop.target(), items.get(i), round);
      if (run(loop.body(), round, out) == Flow.BREAK) {
        break;
      }
    }
    if (items.isEmpty()) {
      run(loop.otherwise(), scope.inner(), out);
    }
  }

  /** The {@code loop} of one round. */
  private record Loop(List<Object> items, int index) {
    Object attribute(String name) {
      int left = items.size() - index;
      return switch (name) {
        case "index" -> index + 1L;
        case "index0" -> (long) index;
        case "revindex" -> (long) left;
        case "revindex0" -> left - 1L;
        case "first" -> index == 0;
        case "last" -> left == 1;
        case "length" -> (long) items.size();
        case "previtem" ->
            index == 0 ? new Undefined("there is no previous item") : items.get(index - 1);
        case "nextitem" ->
            left == 1 ? new Undefined("there is no next item") : items.get(index + 1);
        default -> throw new TemplateException("unsupported attribute loop." + name);
      };
    }
  }

  private void assign(Target target, Object value, Scope scope) {
    switch (target) {
      case Node.NameTarget name -> scope.names().put(name.name(), value);
      case Node.TupleTarget tuple -> {
        List<Object> values = python.iterate(value);
        if (values.size() != tuple.targets().size()) {
          throw new TemplateException(
              "cannot unpack " + values.size() + " values into " + tuple.targets().size());
        }
        for (int i = 0; i < values.size(); i++) {
          assign(tuple.targets().get(i), values.get(i), scope);
        }
      }
      case Node.NamespaceTarget to -> {
        if (!(lookup(to.namespace(), scope) instanceof Namespace namespace)) {
          throw new TemplateException("cannot assign attribute on non-namespace object");
        }
        namespace.attributes().put(to.attribute(), value);
      }
    }
  }

  /** Runs {@code definition} in a scope below the one it was defined in. */
  private Function macro(Node.MacroDefinition definition, Scope definedIn) {
    return arguments -> {
      String[] parameters = definition.parameters().toArray(String[]::new);
      Arguments own = definition.usesCaller() ? arguments.without("caller") : arguments;
      Object[] bound = own.bind(definition.name(), 0, parameters);
      Scope scope = definedIn.inner();
      if (definition.usesCaller()) {
        Object none = new Undefined("No caller defined");
        scope.names().put("caller", arguments.named().getOrDefault("caller", none));
      }
      int firstDefault = parameters.length - definition.defaults().size();
      for (int i = 0; i < parameters.length; i++) {
        Object value = bound[i];
        if (value == Arguments.ABSENT) {
          value =
              i >= firstDefault
                  ? evaluate(definition.defaults().get(i - firstDefault), scope)
                  : new Undefined("parameter '" + parameters[i] + "' was not provided");
        }
        scope.names().put(parameters[i], value);
      }
      StringBuilder out = new StringBuilder();
      run(definition.body(), scope, out);
      return out.toString();
    };
  }

  // Expressions

  private String printed(Object value) {
    return value instanceof Markup markup ? markup.text() : python.str(value);
  }

  private Object evaluate(Expression expression, Scope scope) {
    Object value = operand(expression, scope);
    if (value instanceof Markup) {
      throw new TemplateException(
          "unsupported filter safe, but for what is printed or added up at once",
          expression.line());
    }
    return value;
  }

  /** As {@link #evaluate}, where the value may be marked as safe. */
  private Object operand(Expression expression, Scope scope) {
    budget.enter();
    try {
      budget.charge(Budget.NODE);
      Object value = value(expression, scope);
      budget.leave();
      return value;
    } catch (TemplateException e) {
      throw e.at(expression.line());
    } catch (ArithmeticException e) {
      throw new TemplateException(
          "unsupported: arithmetic beyond 64 bits or division by zero", expression.line());
    }
  }

  private Object value(Expression expression, Scope scope) {
    return switch (expression) {
      case Node.Constant constant -> constant.value();
      case Node.Name name -> lookup(name.name(), scope);
      case Node.Sequence sequence -> {
        List<Object> items = evaluateAll(sequence.items(), scope);
        yield sequence.tuple() ? new Tuple(items) : items;
      }
      case Node.Dictionary dictionary -> dictionary(dictionary, scope);
      case Node.Attribute attribute ->
          attribute(evaluate(attribute.target(), scope), attribute.name());
      case Node.Item item -> item(evaluate(item.target(), scope), evaluate(item.index(), scope));
      case Node.Slice slice ->
          python.slice(
              evaluate(slice.target(), scope),
              bound(slice.start(), scope),
              bound(slice.stop(), scope),
              bound(slice.step(), scope));
      case Node.Call call ->
          call(evaluate(call.function(), scope), arguments(call.arguments(), scope));
      case Node.Filter filter ->
          filters.apply(
              filter.name(),
              evaluate(filter.target(), scope),
              arguments(filter.arguments(), scope));
      case Node.Test test ->
          test(test.name(), evaluate(test.target(), scope), arguments(test.arguments(), scope));
      case Node.Unary unary -> operators.unary(unary.operator(), evaluate(unary.operand(), scope));
      case Node.Binary binary -> binary(binary, scope);
      case Node.Comparison comparison -> compare(comparison, scope);
      case Node.Conditional conditional -> {
        if (Python.truth(evaluate(conditional.condition(), scope))) {
          yield evaluate(conditional.then(), scope);
        }
        yield conditional.otherwise() == null
            ? new Undefined("an inline if was false and has no else")
            : evaluate(conditional.otherwise(), scope);
      }
    };
  }

  /** The value of a block's filters over its text; null filters leave it. */
  private Object filtered(Expression filters, Object text, Scope scope) {
    if (!(filters instanceof Node.Filter filter)) {
      return text;
    }
    Object inner = filtered(filter.target(), text, scope);
    return this.filters.apply(filter.name(), inner, arguments(filter.arguments(), scope));
  }

  private Object lookup(String name, Scope scope) {
    for (Scope level = scope; level != null; level = level.outer()) {
      if (level.has(name)) {
        return level.names().get(name);
      }
    }
    return new Undefined("'" + name + "' is undefined");
  }

  private List<Object> evaluateAll(List<Expression> expressions, Scope scope) {
    List<Object> values = new ArrayList<>();
    for (Expression expression : expressions) {
      values.add(evaluate(expression, scope));
    }
    return values;
  }

  private Object dictionary(Node.Dictionary dictionary, Scope scope) {
    Map<Object, Object> map = new LinkedHashMap<>();
    for (int i = 0; i < dictionary.keys().size(); i++) {
      Object key = evaluate(dictionary.keys().get(i), scope);
      map.put(Python.key(map, key), evaluate(dictionary.values().get(i), scope));
    }
    return map;
  }

  private Long bound(Expression expression, Scope scope) {
    Object value = expression == null ? null : evaluate(expression, scope);
    return value == null ? null : (Long) Methods.integer("a slice", value);
  }

  private Arguments arguments(Node.CallArguments arguments, Scope scope) {
    Map<String, Object> named = new LinkedHashMap<>();
    List<Object> positional = evaluateAll(arguments.positional(), scope);
    arguments.named().forEach((name, value) -> named.put(name, evaluate(value, scope)));
    return new Arguments(positional, named);
  }

  private static Object call(Object function, Arguments arguments) {
    if (function instanceof Function callable) {
      return callable.call(arguments);
    }
    if (function instanceof Undefined undefined) {
      throw undefined.failure();
    }
    throw new TemplateException("'" + Python.typeName(function) + "' object is not callable");
  }

  private Object binary(Node.Binary binary, Scope scope) {
    if (binary.operator().equals("+")) {
      return operators.binary("+", operand(binary.left(), scope), operand(binary.right(), scope));
    }
    Object left = evaluate(binary.left(), scope);
    return switch (binary.operator()) {
      case "and" -> Python.truth(left) ? evaluate(binary.right(), scope) : left;
      case "or" -> Python.truth(left) ? left : evaluate(binary.right(), scope);
      default -> operators.binary(binary.operator(), left, evaluate(binary.right(), scope));
    };
  }

  private boolean compare(Node.Comparison comparison, Scope scope) {
    Object left = evaluate(comparison.first(), scope);
    for (int i = 0; i < comparison.operators().size(); i++) {
      Object right = evaluate(comparison.others().get(i), scope);
      if (!operators.compare(comparison.operators().get(i), left, right)) {
        return false;
      }
      left = right;
    }
    return true;
  }

  boolean test(String name, Object value, Arguments arguments) {
    return operators.test(name, value, arguments);
  }

  /** {@code target.name}: a method first, then what the target holds under that name. */
  private Object attribute(Object target, String name) {
    Function method = methods.find(target, name);
    return method != null ? method : held(target, name);
  }

  /** {@code target[index]}: what the target holds first, then a method of that name. */
  Object item(Object target, Object index) {
    if (index instanceof String name) {
      Object held = held(target, name);
      Function method = held instanceof Undefined ? methods.find(target, name) : null;
      return method != null ? method : held;
    }
    if (target instanceof Undefined undefined) {
      throw undefined.failure();
    }
    if (target instanceof Map<?, ?> map) {
      return Python.has(map, index)
          ? map.get(Python.key(map, index))
          : new Undefined("'dict' has no such key");
    }
    return Python.number(index) instanceof Long position
        ? python.at(target, position)
        : new Undefined(
            "'" + Python.typeName(target) + "' has no item '" + Python.typeName(index) + "'");
  }

  private static Object held(Object target, String name) {
    if (target instanceof Undefined undefined) {
      throw undefined.failure();
    }
    if (target instanceof Loop loop) {
      return loop.attribute(name);
    }
    if (target instanceof Sequences.Group group && name.equals("grouper")) {
      return group.grouper();
    }
    if (target instanceof Sequences.Group group && name.equals("list")) {
      return group.list();
    }
    Map<?, ?> held = Map.of();
    if (target instanceof Namespace namespace) {
      held = namespace.attributes();
    } else if (target instanceof Map<?, ?> map) {
      held = map;
    }
    return held.containsKey(name)
        ? held.get(name)
        : new Undefined("'" + Python.typeName(target) + "' has no attribute '" + name + "'");
  }
}
