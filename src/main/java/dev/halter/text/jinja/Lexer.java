package dev.halter.text.jinja;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/**
 * Splits a template into tokens as Jinja2's lexer does under the settings transformers uses: {@code
 * trim_blocks} (the newline after a block tag goes), {@code lstrip_blocks} (blanks before a block
 * tag that opens its line go) and no {@code keep_trailing_newline}.
 */
final class Lexer {
  enum Kind {
    DATA,
    VARIABLE_BEGIN,
    VARIABLE_END,
    BLOCK_BEGIN,
    BLOCK_END,
    NAME,
    STRING,
    INTEGER,
    FLOAT,
    OPERATOR,
    END
  }

  /** {@code text} is the unescaped value for STRING, the spelling for all others. */
  record Token(Kind kind, String text, int line) {
    boolean is(String operator) {
      return kind == Kind.OPERATOR && text.equals(operator);
    }

    boolean isName(String name) {
      return kind == Kind.NAME && text.equals(name);
    }
  }

  /** Far above any published template (they reach some 30,000 characters). */
  private static final int MAX_SOURCE = 1 << 20;

  /** Longest first, so that the first that fits is the right one. */
  private static final String[] OPERATORS = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";"
  };

  private final String source;
  private final List<Token> tokens = new ArrayList<>();
  private int position;
  private int line = 1;

  /** Whether the last tag ended with a newline, so that what follows opens a line. */
  private boolean lineStarting = true;

  private Lexer(String source) {
    this.source = source;
  }

  static List<Token> tokens(String source) {
    if (source.length() > MAX_SOURCE) {
      throw new TemplateException(
          "has " + source.length() + " characters, more than the " + MAX_SOURCE + " allowed");
    }
    String normal = source.replace("\r\n", "\n").replace('\r', '\n');
    if (normal.endsWith("\n")) {
      normal = normal.substring(0, normal.length() - 1);
    }
    Lexer lexer = new Lexer(normal);
    lexer.root();
    return lexer.tokens;
  }

  private void root() {
    for (int tag = nextTag(position); tag >= 0; tag = nextTag(position)) {
      char kind = source.charAt(tag + 1);
      if (kind == '%') {
        int raw = rawBegin(tag);
        if (raw >= 0) {
          text(tag, true);
          advance(raw);
          raw();
          continue;
        }
      }
      text(tag, kind != '{');
      advance(tag + 2 + (sign(tag + 2) == 0 ? 0 : 1));
      switch (kind) {
        case '#' -> comment();
        case '%' -> {
          add(Kind.BLOCK_BEGIN, "{%");
          expression("%}", Kind.BLOCK_END);
        }
        default -> {
          add(Kind.VARIABLE_BEGIN, "{{");
          expression("}}", Kind.VARIABLE_END);
        }
      }
    }
    String rest = source.substring(position);
    if (!rest.isEmpty()) {
      add(Kind.DATA, rest);
    }
    advance(source.length());
    add(Kind.END, "end of template");
  }

  /** The next position at or behind {@code from} where a tag opens, or -1. */
  private int nextTag(int from) {
    for (int at = source.indexOf('{', from); at >= 0; at = source.indexOf('{', at + 1)) {
      if (at + 1 < source.length() && "{%#".indexOf(source.charAt(at + 1)) >= 0) {
        return at;
      }
    }
    return -1;
  }

  /** The whitespace control sign at {@code at}, or 0. */
  private char sign(int at) {
    char c = at < source.length() ? source.charAt(at) : 0;
    return c == '-' || c == '+' ? c : 0;
  }

  /** Emits the text up to {@code tag}, less what the tag's sign or lstrip_blocks takes away. */
  private void text(int tag, boolean lstrip) {
    String text = source.substring(position, tag);
    char sign = sign(tag + 2);
    if (sign == '-') {
      text = Python.strip(text, false, true);
    } else if (sign == 0 && lstrip) {
      int start = text.lastIndexOf('\n') + 1;
      boolean opensLine = start > 0 || lineStarting;
      if (opensLine && Python.isSpace(text.substring(start))) {
        text = text.substring(0, start);
      }
    }
    if (!text.isEmpty()) {
      add(Kind.DATA, text);
    }
    advance(tag);
  }

  private void comment() {
    int start = position;
    int end = source.indexOf("#}", start);
    if (end < 0) {
      throw new TemplateException("a comment is not closed with #}", line);
    }
    closeBlock(start, end, true);
  }

  /** The end of a {@code {% raw %}} tag at {@code tag}, or -1 if the tag is another one. */
  private int rawBegin(int tag) {
    int at = skipSpace(tag + 2 + (sign(tag + 2) == 0 ? 0 : 1));
    if (!source.startsWith("raw", at)) {
      return -1;
    }
    at = skipSpace(at + 3);
    if (source.startsWith("-%}", at)) {
      return skipSpace(at + 3);
    }
    return source.startsWith("%}", at) ? at + 2 : -1;
  }

  private void raw() {
    int opened = line;
    for (int tag = source.indexOf("{%", position); tag >= 0; tag = source.indexOf("{%", tag + 2)) {
      int at = skipSpace(tag + 2 + (sign(tag + 2) == 0 ? 0 : 1));
      if (!source.startsWith("endraw", at)) {
        continue;
      }
      at = skipSpace(at + 6);
      int end = sign(at) == 0 ? at : at + 1;
      if (source.startsWith("%}", end)) {
        text(tag, true);
        closeBlock(at, end, true);
        return;
      }
    }
    throw new TemplateException("a raw block is not closed with {% endraw %}", opened);
  }

  /**
   * Moves behind the two-character closing mark at {@code mark}: a {@code -} before it takes the
   * whitespace that follows, and without a sign trim_blocks takes one newline.
   */
  private void closeBlock(int start, int mark, boolean trimBlocks) {
    char sign = mark > start ? sign(mark - 1) : 0;
    int end = mark + 2;
    if (sign == '-') {
      end = skipSpace(end);
    } else if (sign == 0 && trimBlocks && end < source.length() && source.charAt(end) == '\n') {
      end++;
    }
    advance(end);
  }

  private int skipSpace(int at) {
    while (at < source.length() && Python.isSpace(source.charAt(at))) {
      at++;
    }
    return at;
  }

  /** Tokens up to the closing mark, which does not count within open brackets. */
  private void expression(String close, Kind closeKind) {
    boolean block = closeKind == Kind.BLOCK_END;
    Deque<Character> open = new ArrayDeque<>();
    while (position < source.length()) {
      char c = source.charAt(position);
      if (Python.isSpace(c)) {
        advance(skipSpace(position));
      } else if (open.isEmpty() && closesHere(close, block)) {
        int mark = source.startsWith(close, position) ? position : position + 1;
        add(closeKind, close);
        closeBlock(position, mark, block);
        return;
      } else if (c == '_' || Character.isLetter(c)) {
        name();
      } else if (c >= '0' && c <= '9') {
        number();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operator(open);
      }
    }
    throw new TemplateException("a tag is not closed with " + close, line);
  }

  private boolean closesHere(String close, boolean block) {
    return source.startsWith(close, position)
        || source.startsWith("-" + close, position)
        || (block && source.startsWith("+" + close, position));
  }

  private void name() {
    int end = position + 1;
    while (end < source.length()
        && (source.charAt(end) == '_' || Character.isLetterOrDigit(source.charAt(end)))) {
      end++;
    }
    add(Kind.NAME, source.substring(position, end));
    advance(end);
  }

  private void number() {
    int end = digits(position);
    Kind kind = Kind.INTEGER;
    if (end + 1 < source.length() && source.charAt(end) == '.' && isDigit(end + 1)) {
      end = digits(end + 1);
      kind = Kind.FLOAT;
    }
    if (end < source.length() && (source.charAt(end) == 'e' || source.charAt(end) == 'E')) {
      int exponent = sign(end + 1) == 0 ? end + 1 : end + 2;
      if (isDigit(exponent)) {
        end = digits(exponent);
        kind = Kind.FLOAT;
      }
    }
    String spelling = source.substring(position, end);
    boolean leadingZero = kind == Kind.INTEGER && spelling.matches("0[0-9]*[1-9][0-9]*");
    boolean joined = end < source.length() && Character.isLetter(source.charAt(end));
    if (leadingZero || joined || source.startsWith("_", end)) {
      throw new TemplateException("unsupported number starting with " + spelling, line);
    }
    add(kind, spelling);
    advance(end);
  }

  private boolean isDigit(int at) {
    return at < source.length() && source.charAt(at) >= '0' && source.charAt(at) <= '9';
  }

  private int digits(int at) {
    while (isDigit(at)) {
      at++;
    }
    return at;
  }

  /** A quoted string with Python's escapes; an unknown escape keeps its backslash. */
  private void string(char quote) {
    StringBuilder value = new StringBuilder();
    int at = position + 1;
    while (at < source.length() && source.charAt(at) != quote) {
      char c = source.charAt(at++);
      if (c != '\\') {
        value.append(c);
      } else if (at < source.length()) {
        at = escape(at, value);
      }
    }
    if (at >= source.length()) {
      throw new TemplateException("a string is not closed with " + quote, line);
    }
    add(Kind.STRING, value.toString());
    advance(at + 1);
  }

  /** Appends the escape whose letter is at {@code at} and returns the position behind it. */
  private int escape(int at, StringBuilder value) {
    char c = source.charAt(at);
    switch (c) {
      case '\n' -> {}
      case 'n' -> value.append('\n');
      case 't' -> value.append('\t');
      case 'r' -> value.append('\r');
      case 'a' -> value.append('\u0007');
      case 'b' -> value.append('\b');
      case 'f' -> value.append('\f');
      case 'v' -> value.append('\u000b');
      case '\\', '\'', '"' -> value.append(c);
      case 'x' -> {
        return codePoint(at + 1, 2, 16, value);
      }
      case 'u' -> {
        return codePoint(at + 1, 4, 16, value);
      }
      case 'U' -> {
        return codePoint(at + 1, 8, 16, value);
      }
      case '0', '1', '2', '3', '4', '5', '6', '7' -> {
        int length = 1;
        while (length < 3 && at + length < source.length() && isOctal(source.charAt(at + length))) {
          length++;
        }
        return codePoint(at, length, 8, value);
      }
      case 'N' -> throw new TemplateException("unsupported escape \\N", line);
      default -> value.append('\\').append(c);
    }
    return at + 1;
  }

  private static boolean isOctal(char c) {
    return c >= '0' && c <= '7';
  }

  private int codePoint(int at, int length, int radix, StringBuilder value) {
    int code = 0;
    for (int i = at; i < at + length; i++) {
      int digit = i < source.length() ? Character.digit(source.charAt(i), radix) : -1;
      if (digit < 0 || code > Character.MAX_CODE_POINT) {
        throw new TemplateException("a malformed escape in a string", line);
      }
      code = code * radix + digit;
    }
    if (!Character.isValidCodePoint(code)) {
      throw new TemplateException("a malformed escape in a string", line);
    }
    value.appendCodePoint(code);
    return at + length;
  }

  private void operator(Deque<Character> open) {
    for (String operator : OPERATORS) {
      if (source.startsWith(operator, position)) {
        switch (operator) {
          case "(" -> open.push(')');
          case "[" -> open.push(']');
          case "{" -> open.push('}');
          case ")", "]", "}" -> {
            if (open.isEmpty() || open.pop() != operator.charAt(0)) {
              throw new TemplateException("unexpected '" + operator + "'", line);
            }
          }
          default -> {}
        }
        add(Kind.OPERATOR, operator);
        advance(position + operator.length());
        return;
      }
    }
    String found = Character.toString(source.codePointAt(position));
    throw new TemplateException("unexpected character '" + found + "'", line);
  }

  private void add(Kind kind, String text) {
    tokens.add(new Token(kind, text, line));
  }

  /** Moves to {@code end}, counting lines and noting whether a line starts there. */
  private void advance(int end) {
    for (int at = position; at < end; at++) {
      if (source.charAt(at) == '\n') {
        line++;
      }
    }
    if (end > position) {
      lineStarting = source.charAt(end - 1) == '\n';
    }
    position = end;
  }
}
