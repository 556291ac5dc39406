package dev.halter.cli;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Layers as a command is told them: {@code 5} or {@code 5..9}, both ends included. */
public record LayerRange(int first, int last) {
  private static final Pattern RANGE = Pattern.compile("(\\d{1,6})(?:\\.\\.(\\d{1,6}))?");

  /** The layers of {@code --layers}. */
  public static LayerRange parse(String layers) {
    Matcher range = RANGE.matcher(layers);
    if (!range.matches()) {
      throw new WrongUseException("--layers is '" + layers + "': write 5 or 5..9, both included");
    }
    int first = Integer.parseInt(range.group(1));
    int last = range.group(2) == null ? first : Integer.parseInt(range.group(2));
    if (last < first) {
      throw new WrongUseException("--layers is '" + layers + "': " + last + " comes first");
    }
    return new LayerRange(first, last);
  }
}
