package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Reason;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** The lines of a file of results that are not blank. */
final class ResultLines {
  /** Takes a line, to write something of it. */
  @FunctionalInterface
  interface Taker {
    /**
     * A line.
     *
     * @param place names it in errors
     * @throws IOException if what is made of it cannot be written
     */
    void take(Path place, String line) throws IOException;
  }

  private ResultLines() {}

  /**
   * Goes through a file.
   *
   * @return how many lines there are
   * @throws BadFileException if it cannot be read
   */
  static int each(Path file, Taker taker) throws IOException {
    int count = 0;
    try (BufferedReader lines = open(file)) {
      int number = 1;
      for (String line = next(file, lines); line != null; line = next(file, lines)) {
        if (!line.isBlank()) {
          taker.take(Path.of(file + ", line " + number), line);
          count++;
        }
        number++;
      }
    }
    return count;
  }

  private static BufferedReader open(Path file) {
    try {
      return Files.newBufferedReader(file, StandardCharsets.UTF_8);
    } catch (NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  private static String next(Path file, BufferedReader lines) {
    try {
      return lines.readLine();
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  private static BadFileException unreadable(Path file, IOException e) {
    return new BadFileException(file, "cannot be read: " + Reason.of(e), e);
  }
}
