package dev.halter.text;

import java.util.Locale;

/** How tables, pictures and pages show the text of a token, of which much cannot be seen. */
public final class VisibleText {
  private VisibleText() {}

  /**
   * A text with a mark for each character that shows nothing: {@code ␣} for a space, {@code ⏎},
   * {@code ⇥} and {@code ␍} for the ends of lines and tabs, the number in hexadecimal for the rest
   * ({@code ⟨200b⟩}), and {@code ⟨empty⟩} for no text at all. The space's mark is the open box
   * because it is next to never a token itself, as the middle dot is.
   */
  public static String of(String text) {
    if (text.isEmpty()) {
      return "⟨empty⟩";
    }
    StringBuilder visible = new StringBuilder();
    text.codePoints().forEach(letter -> visible.append(of(letter)));
    return visible.toString();
  }

  private static String of(int letter) {
    return switch (letter) {
      case ' ' -> "␣";
      case '\n' -> "⏎";
      case '\t' -> "⇥";
      case '\r' -> "␍";
      default ->
          showsNothing(letter)
              ? String.format(Locale.ROOT, "⟨%04x⟩", letter)
              : Character.toString(letter);
    };
  }

  private static boolean showsNothing(int letter) {
    return switch (Character.getType(letter)) {
      case Character.CONTROL,
          Character.SPACE_SEPARATOR,
          Character.LINE_SEPARATOR,
          Character.PARAGRAPH_SEPARATOR,
          Character.FORMAT,
          Character.UNASSIGNED,
          Character.PRIVATE_USE,
          Character.SURROGATE ->
          true;
      default -> false;
    };
  }
}
