package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Reason;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** What commands write that others take up again, told apart by the first bytes. */
enum WrittenFile {
  /** Lines of {@code batch}, which begin with their id. */
  RESULTS,
  /** A document of {@code heads patch}. */
  EFFECTS,
  /** Safetensors, which begin with a length. */
  TENSORS;

  /**
   * What a file is.
   *
   * @throws BadFileException if it cannot be read
   */
  static WrittenFile of(Path file) {
    try (InputStream bytes = Files.newInputStream(file)) {
      String start = new String(bytes.readNBytes(6), StandardCharsets.ISO_8859_1);
      if (start.isEmpty() || start.startsWith("{\"id\":")) {
        return RESULTS;
      }
      return start.startsWith("{") ? EFFECTS : TENSORS;
    } catch (NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (IOException e) {
      throw new BadFileException(file, "cannot be read: " + Reason.of(e), e);
    }
  }
}
