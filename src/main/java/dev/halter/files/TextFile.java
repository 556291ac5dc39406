package dev.halter.files;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** Reads whole texts as hostile input: bounded, UTF-8, with clear errors. */
public final class TextFile {
  /** Five times the largest published tokenizer.json. */
  public static final int MOST_BYTES = 192 << 20;

  private TextFile() {}

  /**
   * The text of a file, as it stands.
   *
   * @throws BadFileException if it is not there, too long or not UTF-8
   */
  public static String read(Path file) {
    try {
      long size = Files.size(file);
      if (size > MOST_BYTES) {
        throw new BadFileException(
            file, "has " + size + " bytes, more than the " + MOST_BYTES + " allowed");
      }
      return StandardCharsets.UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(Files.readAllBytes(file)))
          .toString();
    } catch (NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (CharacterCodingException e) {
      throw new BadFileException(file, "is not UTF-8 text", e);
    } catch (IOException e) {
      throw MappedFile.cannotRead(file, e);
    }
  }

  /**
   * As {@link #read}, without the byte order mark that some editors and spreadsheets begin a text
   * with. In a chat template it is a part of the text, as for transformers; elsewhere it is not.
   */
  public static String readUnmarked(Path file) {
    String text = read(file);
    return text.startsWith("\uFEFF") ? text.substring(1) : text;
  }
}
