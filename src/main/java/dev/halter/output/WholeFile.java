package dev.halter.output;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/** Text files that readers see whole or not at all. */
public final class WholeFile {
  private WholeFile() {}

  /** What a file will hold, written from its beginning to its end. */
  public interface Content {
    void write(Writer out) throws IOException;
  }

  /**
   * Writes a UTF-8 file beside {@code target} and puts it in its place when it is complete. If that
   * fails, whatever was at {@code target} stays as it was.
   *
   * @throws UncheckedIOException if the file cannot be written
   */
  public static void write(Path target, Content content) {
    Path temporary =
        target.resolveSibling(
            target.getFileName() + "." + Long.toHexString(System.nanoTime()) + ".tmp");
    boolean complete = false;
    try {
      if (Files.exists(target) && !Files.isRegularFile(target)) {
        // A device or a pipe would be replaced, not written to.
        throw new IOException("it is no regular file: name another");
      }
      try (BufferedWriter out = Files.newBufferedWriter(temporary, StandardOpenOption.CREATE_NEW)) {
        content.write(out);
      }
      try (FileChannel written = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
        written.force(true); // or a crash could leave the name without the text
      }
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
      complete = true;
    } catch (IOException e) {
      throw new UncheckedIOException(target + ": cannot be written: " + e.getMessage(), e);
    } finally {
      if (!complete) {
        discard(temporary);
      }
    }
  }

  private static void discard(Path temporary) {
    try {
      Files.deleteIfExists(temporary);
    } catch (IOException e) {
      // The error that brought us here says more than that a temporary file stayed behind.
    }
  }
}
