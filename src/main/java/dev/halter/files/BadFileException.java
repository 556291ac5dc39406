package dev.halter.files;

import java.nio.file.Path;

/**
 * A file that Halter cannot use: missing, damaged, hostile, or of a kind that is not supported. The
 * message is one line that starts with the file and says what is wrong with it, and where.
 */
public final class BadFileException extends IllegalArgumentException {
  private static final long serialVersionUID = 1L;

  public BadFileException(Path file, String problem) {
    super(oneLine(file + ": " + problem));
  }

  public BadFileException(Path file, String problem, Throwable cause) {
    super(oneLine(file + ": " + problem), cause);
  }

  /** Names and texts that come out of a hostile file may be long or hold line breaks. */
  private static String oneLine(String message) {
    StringBuilder line = new StringBuilder(message.length());
    message
        .chars()
        .limit(1000)
        .forEach(c -> line.append(Character.isISOControl(c) ? ' ' : (char) c));
    return line.toString();
  }
}
