package dev.halter.files;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.AccessMode;
import java.nio.file.Files;
import java.nio.file.Path;

/** A whole file mapped read-only; and the little-endian layouts to read such files with. */
public final class MappedFile implements AutoCloseable {
  private static final String REMEDY = "leave the files of a model alone while it runs";

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

  private final Path file;
  private final RandomAccessFile opened; // which a thread that is interrupted does not close
  private final Arena arena = Arena.ofShared();
  private final MemorySegment content;
  private final int watch;

  private MappedFile(Path file, RandomAccessFile opened) throws IOException {
    this.file = file;
    this.opened = opened;
    FileChannel channel = opened.getChannel();
    this.content = channel.map(FileChannel.MapMode.READ_ONLY, 0, opened.length(), arena);
    this.watch = LostPages.watch(content);
  }

  /**
   * Maps a file.
   *
   * @throws BadFileException if there is no such file
   * @throws UncheckedIOException if it cannot be read
   */
  public static MappedFile open(Path file) {
    requireFile(file);
    try {
      file.getFileSystem()
          .provider()
          .checkAccess(file, AccessMode.READ); // which tells why it fails
      RandomAccessFile opened = new RandomAccessFile(file.toFile(), "r");
      try {
        return new MappedFile(file, opened);
      } catch (IOException | RuntimeException e) {
        opened.close();
        throw e;
      }
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
  }

  /** All of the file, readable from any thread until this is closed. */
  public MemorySegment content() {
    return content;
  }

  /**
   * Checks that what has been read so far is what was in the file: past the end of one that got
   * shorter there are zeros, or nothing that can be read ({@link LostPages}).
   *
   * @throws BadFileException if it got shorter, or a part of it could not be read
   */
  public void requireWhole() {
    long mapped = content.byteSize();
    try {
      // By the file that is mapped, whatever has its name now.
      if (opened.length() < mapped) {
        throw new BadFileException(
            file,
            "got shorter while it was in use, from %,d to %,d bytes: %s"
                .formatted(mapped, opened.length(), REMEDY));
      }
    } catch (IOException e) {
      throw cannotRead(file, e);
    }
    if (LostPages.lost(watch)) {
      throw new BadFileException(
          file,
          "could not be read to its end of %,d bytes: it was cut and written anew, or its disk fails: %s"
              .formatted(mapped, REMEDY));
    }
  }

  /**
   * Unmaps the file.
   *
   * @throws BadFileException if what has been read may be wrong, as {@link #requireWhole}
   */
  @Override
  public void close() {
    try {
      requireWhole();
    } finally {
      release();
    }
  }

  /** Unmaps the file, whatever became of it. */
  public void release() {
    LostPages.forget(watch);
    arena.close();
    try {
      opened.close();
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
