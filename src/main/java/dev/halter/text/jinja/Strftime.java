package dev.halter.text.jinja;

import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Locale;

/** C's strftime in the C locale, as Python's datetime.now().strftime gives it. */
final class Strftime {
  private Strftime() {}

  static String format(String format, ZonedDateTime time) {
    StringBuilder out = new StringBuilder();
    int at = 0;
    while (at < format.length()) {
      char c = format.charAt(at++);
      if (c != '%') {
        out.append(c);
        continue;
      }
      boolean unpadded = format.startsWith("-", at);
      at += unpadded ? 1 : 0;
      char directive = at < format.length() ? format.charAt(at++) : 0;
      String text = directive(directive, time);
      out.append(unpadded ? text.replaceFirst("^[0 ](?=.)", "") : text);
    }
    return out.toString();
  }

  private static String directive(char directive, ZonedDateTime time) {
    String pattern =
        switch (directive) {
          case 'a' -> "EEE";
          case 'A' -> "EEEE";
          case 'b', 'h' -> "MMM";
          case 'B' -> "MMMM";
          case 'd' -> "dd";
          case 'e' -> "ppd";
          case 'm' -> "MM";
          case 'y' -> "yy";
          case 'Y' -> "yyyy";
          case 'H' -> "HH";
          case 'I' -> "hh";
          case 'M' -> "mm";
          case 'S' -> "ss";
          case 'p' -> "a";
          case 'j' -> "DDD";
          case 'F' -> "yyyy-MM-dd";
          case 'T' -> "HH:mm:ss";
          case '%' -> "'%'";
          case 'n' -> "'\n'";
          case 't' -> "'\t'";
          default ->
              throw new TemplateException("unsupported directive %" + directive + " of strftime");
        };
    return DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH).format(time);
  }
}
