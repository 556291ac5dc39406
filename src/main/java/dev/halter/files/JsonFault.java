package dev.halter.files;

import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonParseException;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import com.fasterxml.jackson.core.io.JsonEOFException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What is wrong with a JSON text, and where. The parser's own messages speak to whoever programs
 * it: they name its switches, which the writer of a plan knows nothing about.
 */
public final class JsonFault {
  private static final Pattern DUPLICATE =
      Pattern.compile("Duplicate field '(.*)'", Pattern.DOTALL);
  private static final Pattern OFFENDER =
      Pattern.compile("(?:'|token '|marker ')(.[^' ]{0,39})'", Pattern.DOTALL);

  /** How a fault ends that Halter's own readers found. */
  private static final String EXPECTED = " was expected";

  private JsonFault() {}

  /** The fault of a text that has something else where {@code what} is due. */
  public static JsonParseException expected(JsonParser json, String what) {
    return new JsonParseException(json, what + EXPECTED);
  }

  /** Such as {@code "the text ends too early (line 3, column 8)"}. */
  public static String of(JsonProcessingException e) {
    JsonLocation where = e.getLocation();
    String place =
        where == null || where.getLineNr() < 1
            ? ""
            : " (line " + where.getLineNr() + ", column " + where.getColumnNr() + ")";
    return what(e) + place;
  }

  private static String what(JsonProcessingException e) {
    String message = e.getOriginalMessage();
    if (e instanceof StreamConstraintsException) {
      return message.contains("Number")
          ? "a number has more than 1000 digits"
          : "a text or a key is too long, or lists and objects lie too deep in each other";
    }
    if (e instanceof JsonEOFException || message.startsWith("Unexpected end-of-input")) {
      return "the text ends too early";
    }
    Matcher duplicate = DUPLICATE.matcher(message);
    if (duplicate.find()) {
      return "the key \"" + duplicate.group(1) + "\" comes twice";
    }
    if (message.endsWith(EXPECTED)) {
      return message;
    }
    if (message.contains("NaN") || message.contains("Inf")) {
      return "NaN and infinities are no numbers in JSON";
    }
    if (message.startsWith("Illegal unquoted character")) {
      return "a text holds a control character, which must be escaped (a line break as \\n)";
    }
    if (message.contains("CTRL-CHAR")) {
      return "a control character cannot stand here";
    }
    if (message.contains("escape")) {
      return "a text has a backslash that is followed by no escape of JSON";
    }
    if (message.contains("Leading zeroes")) {
      return "a number begins with a zero";
    }
    if (message.contains("out of range")) {
      return "a number is too large";
    }
    Matcher offender = OFFENDER.matcher(message);
    return (offender.find() ? "'" + offender.group(1) + "'" : "this") + " cannot stand here";
  }
}
