package dev.halter.files;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** Texts and tables that users give. */
public final class PlainText {
  public static final int MOST_BYTES = 64 << 20;

  private PlainText() {}

  /**
   * The text of a file, without the byte order mark that some editors and spreadsheets begin it
   * with.
   *
   * @throws BadFileException if it is not there, too long or not UTF-8
   */
  public static String read(Path file) {
    try {
      if (Files.size(file) > MOST_BYTES) {
        throw new BadFileException(file, "is larger than " + (MOST_BYTES >> 20) + " MB");
      }
      String text = Files.readString(file);
      return text.startsWith("\uFEFF") ? text.substring(1) : text;
    } catch (NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (CharacterCodingException e) {
      throw new BadFileException(file, "is not UTF-8 text", e);
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be read: " + Reason.of(e), e);
    }
  }
}
