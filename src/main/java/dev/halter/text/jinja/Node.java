package dev.halter.text.jinja;

import java.util.List;
import java.util.Map;

/** The syntax tree of a template. Every node knows the line it starts on, for error messages. */
sealed interface Node {
  int line();

  /** What gives a value. */
  sealed interface Expression extends Node {}

  record Constant(Object value, int line) implements Expression {}

  record Name(String name, int line) implements Expression {}

  /** A list, or a tuple where {@code tuple} is set. */
  record Sequence(List<Expression> items, boolean tuple, int line) implements Expression {}

  record Dictionary(List<Expression> keys, List<Expression> values, int line)
      implements Expression {}

  /** {@code target.name}. */
  record Attribute(Expression target, String name, int line) implements Expression {}

  /** {@code target[index]}. */
  record Item(Expression target, Expression index, int line) implements Expression {}

  /** {@code target[start:stop:step]}; parts left out are null. */
  record Slice(Expression target, Expression start, Expression stop, Expression step, int line)
      implements Expression {}

  record Call(Expression function, CallArguments arguments, int line) implements Expression {}

  /** {@code target | name(arguments)}; the target is null for the first of a block. */
  record Filter(Expression target, String name, CallArguments arguments, int line)
      implements Expression {}

  /** {@code target is name(arguments)}. */
  record Test(Expression target, String name, CallArguments arguments, int line)
      implements Expression {}

  /** {@code -x}, {@code +x} or {@code not x}. */
  record Unary(String operator, Expression operand, int line) implements Expression {}

  record Binary(String operator, Expression left, Expression right, int line)
      implements Expression {}

  /** {@code first op second op third …}, where each operator is a comparison or (not) in. */
  record Comparison(Expression first, List<String> operators, List<Expression> others, int line)
      implements Expression {}

  /** {@code then if condition else otherwise}; the last is null where left out. */
  record Conditional(Expression condition, Expression then, Expression otherwise, int line)
      implements Expression {}

  record CallArguments(List<Expression> positional, Map<String, Expression> named) {
    static final CallArguments NONE = new CallArguments(List.of(), Map.of());
  }

  /** What gives output or changes a name. */
  sealed interface Statement extends Node {}

  record Text(String text, int line) implements Statement {}

  record Output(Expression value, int line) implements Statement {}

  /** One branch for each if and elif; {@code otherwise} is empty where there is no else. */
  record If(List<Branch> branches, List<Statement> otherwise, int line) implements Statement {}

  record Branch(Expression condition, List<Statement> body) {}

  /** {@code condition} is null where the loop has none. */
  record For(
      Target target,
      Expression iterable,
      Expression condition,
      List<Statement> body,
      List<Statement> otherwise,
      int line)
      implements Statement {}

  record Set(Target target, Expression value, int line) implements Statement {}

  /** {@code {% set x %}…{% endset %}}; {@code filters} apply to the text, null for none. */
  record SetBlock(Target target, Expression filters, List<Statement> body, int line)
      implements Statement {}

  /** The defaults belong to the last parameters; one that uses its caller takes it by name. */
  record MacroDefinition(
      String name,
      List<String> parameters,
      List<Expression> defaults,
      List<Statement> body,
      boolean usesCaller,
      int line)
      implements Statement {}

  /** {@code {% call(parameters) macro(…) %}}: the body is the macro's {@code caller}. */
  record CallBlock(Call call, MacroDefinition caller, int line) implements Statement {}

  /** {@code {% filter name %}}: the filters apply to the text of the body. */
  record FilterBlock(Expression filters, List<Statement> body, int line) implements Statement {}

  /** transformers' {@code {% generation %}}: marks assistant text for training, prints its body. */
  record Generation(List<Statement> body, int line) implements Statement {}

  record Break(int line) implements Statement {}

  record Continue(int line) implements Statement {}

  /** What an assignment or a loop writes to. */
  sealed interface Target {}

  record NameTarget(String name) implements Target {}

  record TupleTarget(List<Target> targets) implements Target {}

  record NamespaceTarget(String namespace, String attribute) implements Target {}
}
