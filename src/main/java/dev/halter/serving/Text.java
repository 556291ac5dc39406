package dev.halter.serving;

/** Texts of strangers, as they are shown. */
final class Text {
  private static final int LONGEST = 80;

  private Text() {}

  /** A text as one short line, for messages and logs. */
  static String line(String text) {
    StringBuilder line = new StringBuilder();
    text.chars()
        .limit(LONGEST)
        .forEach(c -> line.append(Character.isISOControl(c) ? ' ' : (char) c));
    return text.length() > LONGEST ? line.append('…').toString() : line.toString();
  }
}
