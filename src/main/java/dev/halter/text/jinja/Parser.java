package dev.halter.text.jinja;

import dev.halter.text.jinja.Lexer.Kind;
import dev.halter.text.jinja.Lexer.Token;
import dev.halter.text.jinja.Node.CallArguments;
import dev.halter.text.jinja.Node.Expression;
import dev.halter.text.jinja.Node.Statement;
import dev.halter.text.jinja.Node.Target;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Recursive descent over Jinja2's grammar, with its precedences and its quirks. */
final class Parser {
  private static final int MAX_NESTING = 100;

  /** Jinja fills these in inside macros that use them; macros here do not. */
  private static final Set<String> MACRO_SPECIALS = Set.of("varargs", "kwargs");

  private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");

  /** Words that end an expression, so that no test takes them for its argument. */
  private static final Set<String> NOT_AN_ARGUMENT = Set.of("else", "or", "and");

  private final List<Token> tokens;
  private int next;
  private int nesting;
  private int loops;
  private int macros;
  private boolean usesCaller; // the macro that is being read

  private Parser(List<Token> tokens) {
    this.tokens = tokens;
  }

  static List<Statement> parse(String source) {
    return new Parser(Lexer.tokens(source)).body(Set.of());
  }

  // Statements

  /** Statements up to a block tag named in {@code ends} (consumed up to and including the name). */
  private List<Statement> body(Set<String> ends) {
    enter();
    int opened = peek().line();
    List<Statement> statements = new ArrayList<>();
    while (true) {
      Token token = advance();
      switch (token.kind()) {
        case DATA -> statements.add(new Node.Text(token.text(), token.line()));
        case VARIABLE_BEGIN -> {
          statements.add(new Node.Output(tuple(true, Set.of()), token.line()));
          expect(Kind.VARIABLE_END, "}}");
        }
        case BLOCK_BEGIN -> {
          if (peek().kind() == Kind.NAME && ends.contains(peek().text())) {
            nesting--;
            return statements;
          }
          statements.add(block());
        }
        case END -> {
          if (!ends.isEmpty()) {
            throw new TemplateException(
                "a block is not closed: expected " + String.join(" or ", ends), opened);
          }
          nesting--;
          return statements;
        }
        default -> throw unexpected(token);
      }
    }
  }

  private Statement block() {
    Token tag = expect(Kind.NAME, "a tag name");
    return switch (tag.text()) {
      case "if" -> ifBlock(tag.line());
      case "for" -> forBlock(tag.line());
      case "set" -> setBlock(tag.line());
      case "macro" -> macroBlock(tag.line());
      case "call" -> callBlock(tag.line());
      case "filter" -> filterBlock(tag.line());
      case "generation" -> {
        endOfTag();
        List<Statement> body = body(Set.of("endgeneration"));
        closeTag();
        yield new Node.Generation(body, tag.line());
      }
      case "break" -> {
        inLoop(tag);
        endOfTag();
        yield new Node.Break(tag.line());
      }
      case "continue" -> {
        inLoop(tag);
        endOfTag();
        yield new Node.Continue(tag.line());
      }
      default ->
          throw new TemplateException("unsupported tag {% " + tag.text() + " %}", tag.line());
    };
  }

  private void inLoop(Token tag) {
    if (loops == 0) {
      throw new TemplateException("{% " + tag.text() + " %} outside of a loop", tag.line());
    }
  }

  private Statement ifBlock(int line) {
    List<Node.Branch> branches = new ArrayList<>();
    List<Statement> otherwise = List.of();
    String tag = "elif";
    while (tag.equals("elif")) {
      Expression condition = tuple(false, Set.of());
      endOfTag();
      branches.add(new Node.Branch(condition, body(Set.of("elif", "else", "endif"))));
      tag = advance().text();
    }
    if (tag.equals("else")) {
      endOfTag();
      otherwise = body(Set.of("endif"));
      advance();
    }
    endOfTag();
    return new Node.If(branches, otherwise, line);
  }

  private Statement forBlock(int line) {
    Target target = target(Set.of("in"), false);
    expectName("in");
    Expression iterable = tuple(false, Set.of("recursive"));
    Expression condition = skipName("if") ? expression() : null;
    if (peek().isName("recursive")) {
      throw new TemplateException("unsupported recursive loop", line);
    }
    endOfTag();
    loops++;
    List<Statement> body = body(Set.of("endfor", "else"));
    loops--;
    List<Statement> otherwise = List.of();
    if (advance().text().equals("else")) {
      endOfTag();
      otherwise = body(Set.of("endfor"));
      advance();
    }
    endOfTag();
    return new Node.For(target, iterable, condition, body, otherwise, line);
  }

  private Statement setBlock(int line) {
    Target target = target(Set.of(), true);
    if (skip("=")) {
      Expression value = tuple(true, Set.of());
      endOfTag();
      return new Node.Set(target, value, line);
    }
    Expression filters = peek().is("|") ? filters(null) : null;
    endOfTag();
    List<Statement> body = body(Set.of("endset"));
    closeTag();
    return new Node.SetBlock(target, filters, body, line);
  }

  private Statement macroBlock(int line) {
    String name = assignable(expect(Kind.NAME, "the macro's name"));
    return macro(name, signature(line), "endmacro", line);
  }

  private Statement callBlock(int line) {
    Signature signature = peek().is("(") ? signature(line) : new Signature(List.of(), List.of());
    if (!(expression() instanceof Node.Call call)) {
      throw new TemplateException("{% call %} needs the call of a macro", line);
    }
    return new Node.CallBlock(call, macro("caller", signature, "endcall", line), line);
  }

  private Statement filterBlock(int line) {
    Expression filters = null;
    do {
      String name = dottedName();
      CallArguments arguments = peek().is("(") ? arguments() : CallArguments.NONE;
      filters = new Node.Filter(filters, name, arguments, line);
    } while (skip("|"));
    endOfTag();
    List<Statement> body = body(Set.of("endfilter"));
    closeTag();
    return new Node.FilterBlock(filters, body, line);
  }

  /** The parameters of a macro; the defaults belong to the last of them. */
  private record Signature(List<String> parameters, List<Expression> defaults) {}

  private Signature signature(int line) {
    expectOperator("(");
    List<String> parameters = new ArrayList<>();
    List<Expression> defaults = new ArrayList<>();
    while (!peek().is(")")) {
      if (!parameters.isEmpty()) {
        expectOperator(",");
      }
      String parameter = assignable(expect(Kind.NAME, "a parameter"));
      if (parameter.equals("caller")) {
        throw new TemplateException("unsupported: a parameter called caller", line);
      }
      if (parameters.contains(parameter)) {
        throw new TemplateException("duplicate parameter " + parameter, line);
      }
      parameters.add(parameter);
      if (skip("=")) {
        defaults.add(expression());
      } else if (!defaults.isEmpty()) {
        throw new TemplateException("a parameter without default after one with", line);
      }
    }
    expectOperator(")");
    return new Signature(parameters, defaults);
  }

  private Node.MacroDefinition macro(String name, Signature signature, String end, int line) {
    endOfTag();
    int outerLoops = loops;
    boolean outerUses = usesCaller;
    loops = 0;
    usesCaller = false;
    macros++;
    List<Statement> body = body(Set.of(end));
    macros--;
    loops = outerLoops;
    closeTag();
    Node.MacroDefinition macro =
        new Node.MacroDefinition(
            name, signature.parameters, signature.defaults, body, usesCaller, line);
    usesCaller |= outerUses; // one inside of another counts for both, as in Jinja
    return macro;
  }

  private void endOfTag() {
    expect(Kind.BLOCK_END, "%}");
  }

  /** The rest of an end tag of which {@link #body} left the name. */
  private void closeTag() {
    advance();
    endOfTag();
  }

  /** One name, {@code a, b}, {@code (a, b)} or, where allowed, {@code namespace.attribute}. */
  private Target target(Set<String> ends, boolean namespaceAllowed) {
    if (namespaceAllowed && peek().kind() == Kind.NAME && tokens.get(next + 1).is(".")) {
      String namespace = advance().text();
      advance();
      return new Node.NamespaceTarget(namespace, expect(Kind.NAME, "an attribute").text());
    }
    List<Target> targets = new ArrayList<>();
    boolean tuple = false;
    do {
      if (!targets.isEmpty() && endsTuple(ends)) {
        break;
      }
      targets.add(singleTarget());
      tuple |= peek().is(",");
    } while (skip(","));
    return tuple ? new Node.TupleTarget(targets) : targets.getFirst();
  }

  private Target singleTarget() {
    if (!skip("(")) {
      return new Node.NameTarget(assignable(expect(Kind.NAME, "a name")));
    }
    enter();
    Target target = target(Set.of(), false);
    expectOperator(")");
    nesting--;
    return target;
  }

  private static String assignable(Token name) {
    if (Set.of("true", "false", "none", "True", "False", "None").contains(name.text())) {
      throw new TemplateException("cannot assign to " + name.text(), name.line());
    }
    return name.text();
  }

  // Expressions, from the loosest binding to the tightest

  /** One expression, or a tuple of several with commas; {@code a if b else c} where allowed. */
  private Expression tuple(boolean conditional, Set<String> ends) {
    int line = peek().line();
    List<Expression> items = new ArrayList<>();
    boolean tuple = false;
    while (items.isEmpty() || !endsTuple(ends)) {
      items.add(conditional ? expression() : or());
      if (!skip(",")) {
        break;
      }
      tuple = true;
    }
    return tuple ? new Node.Sequence(items, true, line) : items.getFirst();
  }

  private boolean endsTuple(Set<String> ends) {
    Token token = peek();
    return token.kind() == Kind.VARIABLE_END
        || token.kind() == Kind.BLOCK_END
        || token.is(")")
        || (token.kind() == Kind.NAME && ends.contains(token.text()));
  }

  private Expression expression() {
    enter();
    int line = peek().line();
    Expression value = or();
    while (skipName("if")) {
      Expression condition = or();
      Expression otherwise = skipName("else") ? expression() : null;
      value = new Node.Conditional(condition, value, otherwise, line);
    }
    nesting--;
    return value;
  }

  private Expression or() {
    Expression left = and();
    while (peek().isName("or")) {
      int line = advance().line();
      left = new Node.Binary("or", left, and(), line);
    }
    return left;
  }

  private Expression and() {
    Expression left = not();
    while (peek().isName("and")) {
      int line = advance().line();
      left = new Node.Binary("and", left, not(), line);
    }
    return left;
  }

  private Expression not() {
    if (!peek().isName("not")) {
      return comparison();
    }
    enter();
    int line = advance().line();
    Expression operand = not();
    nesting--;
    return new Node.Unary("not", operand, line);
  }

  private Expression comparison() {
    int line = peek().line();
    Expression first = sum();
    List<String> operators = new ArrayList<>();
    List<Expression> others = new ArrayList<>();
    while (true) {
      Token token = peek();
      if (token.kind() == Kind.OPERATOR && COMPARISONS.contains(token.text())) {
        operators.add(advance().text());
      } else if (skipName("in")) {
        operators.add("in");
      } else if (token.isName("not") && tokens.get(next + 1).isName("in")) {
        next += 2;
        operators.add("not in");
      } else {
        return operators.isEmpty() ? first : new Node.Comparison(first, operators, others, line);
      }
      others.add(sum());
    }
  }

  private Expression sum() {
    Expression left = concatenation();
    while (peek().is("+") || peek().is("-")) {
      Token operator = advance();
      left = new Node.Binary(operator.text(), left, concatenation(), operator.line());
    }
    return left;
  }

  private Expression concatenation() {
    Expression left = product();
    while (peek().is("~")) {
      int line = advance().line();
      left = new Node.Binary("~", left, product(), line);
    }
    return left;
  }

  private Expression product() {
    Expression left = power();
    while (peek().is("*") || peek().is("/") || peek().is("//") || peek().is("%")) {
      Token operator = advance();
      left = new Node.Binary(operator.text(), left, power(), operator.line());
    }
    return left;
  }

  private Expression power() {
    Expression left = unary(true);
    while (peek().is("**")) {
      int line = advance().line();
      left = new Node.Binary("**", left, unary(true), line);
    }
    return left;
  }

  /** A sign binds tighter than a filter: {@code -x|abs} is {@code (-x)|abs}. */
  private Expression unary(boolean withFilters) {
    Expression value;
    if (peek().is("-") || peek().is("+")) {
      enter();
      Token operator = advance();
      value = new Node.Unary(operator.text(), unary(false), operator.line());
      nesting--;
    } else {
      value = postfix(primary());
    }
    return withFilters ? filters(value) : value;
  }

  private Expression primary() {
    Token token = advance();
    int line = token.line();
    switch (token.kind()) {
      case NAME -> {
        return switch (token.text()) {
          case "true", "True" -> new Node.Constant(true, line);
          case "false", "False" -> new Node.Constant(false, line);
          case "none", "None" -> new Node.Constant(null, line);
          default -> name(token);
        };
      }
      case STRING -> {
        StringBuilder text = new StringBuilder(token.text());
        while (peek().kind() == Kind.STRING) {
          text.append(advance().text());
        }
        return new Node.Constant(text.toString(), line);
      }
      case INTEGER -> {
        return integer(token);
      }
      case FLOAT -> {
        return new Node.Constant(Double.parseDouble(token.text()), line);
      }
      default -> {
        if (token.is("(")) {
          enter();
          Expression value =
              peek().is(")") ? new Node.Sequence(List.of(), true, line) : tuple(true, Set.of());
          expectOperator(")");
          nesting--;
          return value;
        }
        if (token.is("[")) {
          return new Node.Sequence(items("]"), false, line);
        }
        if (token.is("{")) {
          return dictionary(line);
        }
        throw unexpected(token);
      }
    }
  }

  private Expression name(Token token) {
    if (macros > 0 && MACRO_SPECIALS.contains(token.text())) {
      throw new TemplateException("unsupported in a macro: " + token.text(), token.line());
    }
    usesCaller |= token.text().equals("caller");
    return new Node.Name(token.text(), token.line());
  }

  private static Expression integer(Token token) {
    try {
      return new Node.Constant(Long.parseLong(token.text()), token.line());
    } catch (NumberFormatException e) {
      throw new TemplateException("unsupported: an integer of more than 64 bits", token.line());
    }
  }

  /** Expressions between commas, up to and including {@code close}. */
  private List<Expression> items(String close) {
    List<Expression> items = new ArrayList<>();
    while (!skip(close)) {
      if (!items.isEmpty()) {
        expectOperator(",");
        if (skip(close)) {
          break;
        }
      }
      items.add(expression());
    }
    return items;
  }

  private Expression dictionary(int line) {
    List<Expression> keys = new ArrayList<>();
    List<Expression> values = new ArrayList<>();
    while (!skip("}")) {
      if (!keys.isEmpty()) {
        expectOperator(",");
        if (skip("}")) {
          break;
        }
      }
      keys.add(expression());
      expectOperator(":");
      values.add(expression());
    }
    return new Node.Dictionary(keys, values, line);
  }

  private Expression postfix(Expression value) {
    while (true) {
      Token token = peek();
      if (token.is(".")) {
        advance();
        Token attribute = advance();
        if (attribute.kind() == Kind.NAME) {
          value = new Node.Attribute(value, attribute.text(), token.line());
        } else if (attribute.kind() == Kind.INTEGER) {
          value = new Node.Item(value, integer(attribute), token.line());
        } else {
          throw unexpected(attribute);
        }
      } else if (token.is("[")) {
        advance();
        value = subscript(value, token.line());
      } else if (token.is("(")) {
        value = new Node.Call(value, arguments(), token.line());
      } else {
        return value;
      }
    }
  }

  private Expression subscript(Expression value, int line) {
    Expression start = peek().is(":") ? null : expression();
    if (peek().is(",")) {
      throw new TemplateException("unsupported: an index of several parts", line);
    }
    if (skip("]")) {
      return new Node.Item(value, start, line);
    }
    expectOperator(":");
    Expression stop = peek().is(":") || peek().is("]") ? null : expression();
    Expression step = skip(":") && !peek().is("]") ? expression() : null;
    expectOperator("]");
    return new Node.Slice(value, start, stop, step, line);
  }

  /** Filters, tests and calls behind a value; a null value starts the filters of a set block. */
  private Expression filters(Expression value) {
    while (true) {
      Token token = peek();
      if (skip("|")) {
        String name = dottedName();
        CallArguments arguments = peek().is("(") ? arguments() : CallArguments.NONE;
        value = new Node.Filter(value, name, arguments, token.line());
      } else if (value != null && skipName("is")) {
        value = test(value, token.line());
      } else if (value != null && token.is("(")) {
        value = new Node.Call(value, arguments(), token.line());
      } else {
        return value;
      }
    }
  }

  private Expression test(Expression value, int line) {
    boolean negated = skipName("not");
    String name = dottedName();
    CallArguments arguments = CallArguments.NONE;
    Token token = peek();
    if (token.is("(")) {
      arguments = arguments();
    } else if (startsValue(token)) {
      if (token.isName("is")) {
        throw new TemplateException("tests cannot be chained with is", token.line());
      }
      arguments = new CallArguments(List.of(postfix(primary())), Map.of());
    }
    Expression test = new Node.Test(value, name, arguments, line);
    return negated ? new Node.Unary("not", test, line) : test;
  }

  private static boolean startsValue(Token token) {
    return switch (token.kind()) {
      case NAME -> !NOT_AN_ARGUMENT.contains(token.text());
      case STRING, INTEGER, FLOAT -> true;
      default -> token.is("[") || token.is("{");
    };
  }

  private String dottedName() {
    StringBuilder name = new StringBuilder(expect(Kind.NAME, "a name").text());
    while (skip(".")) {
      name.append('.').append(expect(Kind.NAME, "a name").text());
    }
    return name.toString();
  }

  private CallArguments arguments() {
    int line = advance().line();
    List<Expression> positional = new ArrayList<>();
    Map<String, Expression> named = new LinkedHashMap<>();
    while (!skip(")")) {
      if (!positional.isEmpty() || !named.isEmpty()) {
        expectOperator(",");
        if (skip(")")) {
          break;
        }
      }
      if (peek().is("*") || peek().is("**")) {
        throw new TemplateException("unsupported: " + peek().text() + " in arguments", line);
      }
      if (peek().kind() == Kind.NAME && tokens.get(next + 1).is("=")) {
        String name = advance().text();
        advance();
        if (named.put(name, expression()) != null) {
          throw new TemplateException("argument " + name + " is given twice", line);
        }
      } else if (named.isEmpty()) {
        positional.add(expression());
      } else {
        throw new TemplateException("a positional argument after a named one", line);
      }
    }
    return new CallArguments(positional, named);
  }

  // Tokens

  private Token peek() {
    return tokens.get(next);
  }

  /** The next token; the last one, END, stays. */
  private Token advance() {
    Token token = tokens.get(next);
    if (token.kind() != Kind.END) {
      next++;
    }
    return token;
  }

  private boolean skip(String operator) {
    boolean found = peek().is(operator);
    if (found) {
      next++;
    }
    return found;
  }

  private boolean skipName(String name) {
    boolean found = peek().isName(name);
    if (found) {
      next++;
    }
    return found;
  }

  private Token expect(Kind kind, String expected) {
    Token token = advance();
    if (token.kind() != kind) {
      throw new TemplateException(
          "expected " + expected + ", found '" + token.text() + "'", token.line());
    }
    return token;
  }

  private void expectOperator(String operator) {
    if (!skip(operator)) {
      Token token = peek();
      throw new TemplateException(
          "expected '" + operator + "', found '" + token.text() + "'", token.line());
    }
  }

  private void expectName(String name) {
    if (!skipName(name)) {
      Token token = peek();
      throw new TemplateException(
          "expected " + name + ", found '" + token.text() + "'", token.line());
    }
  }

  private static TemplateException unexpected(Token token) {
    return new TemplateException("unexpected '" + token.text() + "'", token.line());
  }

  /** One level deeper; a failed parse is never resumed, so only success needs to count down. */
  private void enter() {
    if (++nesting > MAX_NESTING) {
      throw new TemplateException(
          "nested more than " + MAX_NESTING + " levels deep", peek().line());
    }
  }
}
