package dev.halter.files;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads the text files of a model folder as hostile input: bounded, UTF-8, with clear errors. */
public final class TextFile {
  /** Five times the largest published tokenizer.json. */
  private static final int MAX_BYTES = 192 << 20;

  private TextFile() {}

  public static String read(Path file) {
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw new BadFileException(
            file, "has " + size + " bytes, more than the " + MAX_BYTES + " allowed");
      }
      String text =
          StandardCharsets.UTF_8
              .newDecoder()
              .decode(ByteBuffer.wrap(Files.readAllBytes(file)))
              .toString();
      // A byte order mark is no part of JSON; in a template it would be, as in transformers.
      boolean marked = text.startsWith("\uFEFF") && file.toString().endsWith(".json");
      return marked ? text.substring(1) : text;
    } catch (CharacterCodingException e) {
      throw new BadFileException(file, "is not UTF-8 text", e);
    } catch (IOException e) {
      throw new BadFileException(file, "cannot be read: " + Reason.of(e), e);
    }
  }
}
