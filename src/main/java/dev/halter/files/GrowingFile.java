package dev.halter.files;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Objects;

/**
 * A text file that grows line by line: each is on disk as soon as it is appended, and a lock keeps
 * other writers away. A kill may cut the last line off, so whoever opens the file looks at what is
 * there and then calls {@link #keepLines}. A pipe or a device holds nothing and takes lines.
 */
public final class GrowingFile implements AutoCloseable {
  private final Path file;
  private final boolean stream;
  private final FileChannel channel;
  private final Object key; // which file it is
  private final byte[] bytes;
  private final int end; // of the last whole line

  /**
   * Opens a file, or begins one, and reads it.
   *
   * @throws UncheckedIOException if it cannot be read and written, is longer than {@code mostBytes}
   *     or is open for writing elsewhere
   */
  public GrowingFile(Path file, int mostBytes) {
    Destination.check(file);
    this.file = file;
    this.stream = Destination.isStream(file);
    try {
      channel =
          stream
              ? Destination.open(file)
              : FileChannel.open(
                  file,
                  StandardOpenOption.CREATE,
                  StandardOpenOption.READ,
                  StandardOpenOption.WRITE);
      try {
        bytes = stream ? new byte[0] : lockAndRead(mostBytes);
        key = stream ? null : key();
      } catch (IOException e) {
        channel.close();
        throw e;
      }
    } catch (IOException e) {
      throw failure("cannot be opened", e);
    }
    int last = bytes.length;
    while (last > 0 && bytes[last - 1] != '\n') {
      last--;
    }
    end = last;
  }

  private byte[] lockAndRead(int mostBytes) throws IOException {
    boolean locked;
    try {
      locked = channel.tryLock() != null;
    } catch (OverlappingFileLockException e) {
      locked = false; // by this process
    }
    if (!locked) {
      throw new IOException("another process writes to it");
    }
    // Through the channel: closing a second one to the file would give up the lock.
    if (channel.size() > mostBytes) {
      throw new IOException("it is larger than " + mostBytes + " bytes");
    }
    ByteBuffer all = ByteBuffer.allocate((int) channel.size());
    while (all.hasRemaining() && channel.read(all) >= 0) {}
    return all.array();
  }

  /** The whole lines that the file held when it was opened, with their ends. */
  public String lines() {
    return new String(bytes, 0, end, StandardCharsets.UTF_8);
  }

  /** What the file held after its last whole line. */
  public String rest() {
    return new String(bytes, end, bytes.length - end, StandardCharsets.UTF_8);
  }

  /** Takes away what stood after the last whole line; lines are then appended after it. */
  public void keepLines() {
    if (stream) {
      return;
    }
    try {
      channel.truncate(end);
      channel.position(end);
    } catch (IOException e) {
      throw failure("cannot be written", e);
    }
  }

  /** Appends a line, which brings its end; all of it or, where it does not fit, nothing. */
  public void append(String line) {
    ByteBuffer left = ByteBuffer.wrap(line.getBytes(StandardCharsets.UTF_8));
    try {
      long before = stream ? 0 : channel.position();
      try {
        while (left.hasRemaining()) {
          channel.write(left);
        }
      } catch (IOException e) {
        if (!stream) {
          channel.truncate(before);
        }
        throw e;
      }
      requireThere();
    } catch (IOException e) {
      throw failure("cannot be written", e);
    }
  }

  private Object key() throws IOException {
    return Files.readAttributes(file, BasicFileAttributes.class).fileKey();
  }

  /** A file that is removed takes lines as before, and nobody will ever read them. */
  private void requireThere() throws IOException {
    if (stream) {
      return;
    }
    boolean there;
    try {
      there = Objects.equals(key, key());
    } catch (NoSuchFileException e) {
      there = false;
    }
    if (!there) {
      throw new IOException("it was removed or replaced by another while this run wrote to it");
    }
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      throw failure("cannot be closed", e);
    }
  }

  private UncheckedIOException failure(String what, IOException e) {
    return new UncheckedIOException(file + ": " + what + ": " + Reason.of(e), e);
  }
}
