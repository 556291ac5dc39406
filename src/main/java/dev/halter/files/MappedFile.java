package dev.halter.files;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Maps whole files read-only, and knows the little-endian layouts to read them with. */
public final class MappedFile {
  /**
   * Unaligned, because the formats only promise the alignment of their own header's padding, and
   * files exist that do not keep even that.
   */
  public static final ValueLayout.OfFloat F32 =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  public static final ValueLayout.OfDouble F64 =
      ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  public static final ValueLayout.OfShort I16 =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  public static final ValueLayout.OfInt I32 =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  public static final ValueLayout.OfLong I64 =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private MappedFile() {}

  /**
   * Maps {@code file}; the segment lives as long as {@code arena}.
   *
   * @throws BadFileException if there is no such file
   * @throws UncheckedIOException if it cannot be read
   */
  public static MemorySegment map(Path file, Arena arena) {
    FileChannel channel = open(file);
    try {
      return map(file, channel, arena);
    } finally {
      close(file, channel);
    }
  }

  /** As {@link #map(Path, Arena)}, by a channel that stays open. */
  public static MemorySegment map(Path file, FileChannel channel, Arena arena) {
    try {
      return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
  }

  public static FileChannel open(Path file) {
    requireFile(file);
    try {
      return FileChannel.open(file, StandardOpenOption.READ);
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
  }

  public static void close(Path file, FileChannel channel) {
    try {
      channel.close();
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
  }

  /** That a file, or a folder, cannot be read, and why. */
  public static UncheckedIOException cannotRead(Path file, IOException e) {
    return new UncheckedIOException(file + ": cannot be read: " + Reason.of(e), e);
  }

  /** The bytes of a small file, refused when it is longer than {@code limit} bytes. */
  public static byte[] read(Path file, int limit) {
    requireFile(file);
    try {
      long size = Files.size(file);
      if (size > limit) {
        throw new BadFileException(
            file, "is " + size + " bytes long; at most " + limit + " make sense for such a file");
      }
      return Files.readAllBytes(file);
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
  }

  private static void requireFile(Path file) {
    if (!Files.exists(file)) {
      throw new BadFileException(file, "no such file");
    }
    if (!Files.isRegularFile(file)) {
      throw new BadFileException(file, "is not a regular file");
    }
  }
}
