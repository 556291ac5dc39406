package dev.halter.files;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Files that readers see whole or not at all. */
public final class WholeFile {
  private WholeFile() {}

  /** What a text file will hold, written from its beginning to its end. */
  public interface Content {
    void write(Writer out) throws IOException;
  }

  /**
   * Writes a UTF-8 file. If that fails, whatever was at {@code target} stays as it was.
   *
   * @throws UncheckedIOException if the file cannot be written
   */
  public static void write(Path target, Content content) {
    try (Successor file = Successor.file(target)) {
      Writer out = Channels.newWriter(file.channel(), StandardCharsets.UTF_8.newEncoder(), 1 << 16);
      content.write(out);
      out.flush();
      file.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  /** Writes a file of these bytes likewise. */
  public static void write(Path target, byte[] content) {
    try (Successor file = Successor.file(target)) {
      ByteBuffer left = ByteBuffer.wrap(content);
      while (left.hasRemaining()) {
        file.channel().write(left);
      }
      file.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }
}
