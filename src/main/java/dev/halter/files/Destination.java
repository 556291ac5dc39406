package dev.halter.files;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Set;

/** Where a file is to be written to: a place in a folder, or a pipe or a device that is there. */
public final class Destination {
  private static final Set<String> STANDARD_OUTPUT =
      Set.of("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1");

  private Destination() {}

  /**
   * Refuses what cannot be written, before the work whose result it would hold.
   *
   * @throws UncheckedIOException that names the target and the reason
   */
  public static void check(Path target) {
    if (isStandardOutput(target)) {
      return;
    }
    try {
      if (Files.isDirectory(target)) {
        throw new FileSystemException(target.toString(), null, "it is a folder");
      }
      Path place = isStream(target) ? target : target.toAbsolutePath().getParent();
      if (!Files.exists(place)) {
        throw new NoSuchFileException(target.toString());
      }
      if (!Files.isDirectory(place) && place != target) {
        throw new FileSystemException(target.toString(), null, place + " is no folder");
      }
      if (!Files.isWritable(place)) {
        throw new AccessDeniedException(target.toString());
      }
      if (Files.isRegularFile(target) && isOpened(target)) {
        throw new FileSystemException(
            target.toString(), null, "it is a file that the shell writes to: name that file");
      }
    } catch (IOException e) {
      throw unwritable(target, e);
    }
  }

  /**
   * Refuses a folder that cannot be made, with those that it lies in.
   *
   * @throws UncheckedIOException that names the target and the reason
   */
  public static void checkFolder(Path target) {
    Path there = target.toAbsolutePath().normalize();
    while (!Files.exists(there)) {
      there = there.getParent();
    }
    if (!Files.isDirectory(there)) {
      throw unwritable(target, new FileSystemException(null, null, there + " is no folder"));
    }
    if (!Files.isWritable(there)) {
      throw unwritable(target, new AccessDeniedException(there.toString()));
    }
  }

  /** Whether both are names of one file that is there. */
  public static boolean isSame(Path one, Path other) {
    try {
      return Files.isRegularFile(one) && Files.exists(other) && Files.isSameFile(one, other);
    } catch (IOException e) {
      return false; // who reads or writes it will say more
    }
  }

  /** Whether this is a pipe, a terminal or another device, which takes bytes as they come. */
  static boolean isStream(Path target) {
    return isStandardOutput(target)
        || Files.exists(target) && !Files.isRegularFile(target) && !Files.isDirectory(target);
  }

  /** Whether this is what the process prints to, by one of its names. */
  public static boolean isStandardOutput(Path target) {
    return STANDARD_OUTPUT.contains(target.toString());
  }

  /** Opens a pipe or a device. */
  static FileChannel open(Path stream) throws IOException {
    // By its name, a file behind standard output would be written from its beginning.
    return isStandardOutput(stream)
        ? new FileOutputStream(FileDescriptor.out).getChannel()
        : FileChannel.open(stream, StandardOpenOption.WRITE);
  }

  /** {@code /dev/fd/3} and its like: a file would be written from two sides, over each other. */
  private static boolean isOpened(Path target) {
    Path full = target.toAbsolutePath().normalize();
    return full.startsWith("/dev") || full.startsWith("/proc");
  }

  /** That a target cannot be written, and why. */
  public static UncheckedIOException unwritable(Path target, IOException e) {
    return new UncheckedIOException(target + ": cannot be written: " + Reason.of(e), e);
  }
}
