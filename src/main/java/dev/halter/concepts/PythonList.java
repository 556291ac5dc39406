package dev.halter.concepts;

import dev.halter.files.BadFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/**
 * A Python literal of a list of strings, such as {@code ['a', "b's", 'c\n']}: read, never
 * evaluated. Strings have no prefix, stand in single or double quotes on one line, and know
 * Python's escapes but {@code \N{…}} and octal ones.
 */
final class PythonList {
  private final Path file;
  private final String text;
  private int at;

  private PythonList(Path file, String text) {
    this.file = file;
    this.text = text;
  }

  /**
   * Reads a text that is one list.
   *
   * @param file for messages
   */
  static List<String> read(Path file, String text) {
    PythonList list = new PythonList(file, text);
    List<String> strings = list.list();
    list.space();
    if (list.at < text.length()) {
      throw list.bad("something after the list");
    }
    return strings;
  }

  private List<String> list() {
    List<String> strings = new ArrayList<>();
    expect('[');
    while (!next(']')) {
      strings.add(string());
      if (!next(',')) {
        expect(']');
        break;
      }
    }
    return strings;
  }

  private String string() {
    space();
    char quote = at < text.length() ? text.charAt(at) : 0;
    if (quote != '\'' && quote != '"') {
      throw bad("no string in quotes");
    }
    at++;
    StringBuilder string = new StringBuilder();
    while (true) {
      if (at >= text.length() || text.charAt(at) == '\n') {
        throw bad("a string without an end");
      }
      char c = text.charAt(at++);
      if (c == quote) {
        return string.toString();
      }
      if (c == '\\') {
        escape(string);
      } else {
        string.append(c);
      }
    }
  }

  private void escape(StringBuilder string) {
    char c = at < text.length() ? text.charAt(at++) : 0;
    switch (c) {
      case '\n' -> {} // goes on in the next line
      case '\\', '\'', '"' -> string.append(c);
      case 'n' -> string.append('\n');
      case 't' -> string.append('\t');
      case 'r' -> string.append('\r');
      case 'a' -> string.append('\u0007');
      case 'b' -> string.append('\b');
      case 'f' -> string.append('\f');
      case 'v' -> string.append('\u000b');
      case 'x' -> string.appendCodePoint(hexadecimal(2));
      case 'u' -> string.appendCodePoint(hexadecimal(4));
      case 'U' -> string.appendCodePoint(hexadecimal(8));
      default -> throw bad("an escape that is not known");
    }
  }

  private int hexadecimal(int digits) {
    int end = at + digits;
    long value = 0;
    for (; at < end; at++) {
      char digit = at < text.length() ? text.charAt(at) : 0;
      if (!HexFormat.isHexDigit(digit)) {
        throw bad("an escape with too few digits");
      }
      value = 16 * value + HexFormat.fromHexDigit(digit);
    }
    if (value > Character.MAX_CODE_POINT) {
      throw bad("an escape that is no character");
    }
    return (int) value;
  }

  private void space() {
    while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
      at++;
    }
  }

  private boolean next(char c) {
    space();
    boolean there = at < text.length() && text.charAt(at) == c;
    at += there ? 1 : 0;
    return there;
  }

  private void expect(char c) {
    if (!next(c)) {
      throw bad("no '" + c + "'");
    }
  }

  private BadFileException bad(String problem) {
    long line = text.substring(0, Math.min(at, text.length())).lines().count();
    return new BadFileException(
        file, "is no Python list of strings: " + problem + " in line " + Math.max(1, line));
  }
}
