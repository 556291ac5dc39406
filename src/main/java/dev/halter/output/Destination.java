package dev.halter.output;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** Where a file is to be written to: a place in a folder, or a pipe or a device that is there. */
public final class Destination {
  private Destination() {}

  /**
   * Refuses what cannot be written, before the work whose result it would hold.
   *
   * @throws UncheckedIOException that names the target and the reason
   */
  public static void check(Path target) {
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

  /** Whether this is a pipe, a terminal or another device, which takes bytes as they come. */
  static boolean isStream(Path target) {
    return Files.exists(target) && !Files.isRegularFile(target) && !Files.isDirectory(target);
  }

  /**
   * {@code /dev/stdout} and its like: written by its name, a file would be written from two sides.
   */
  private static boolean isOpened(Path target) {
    Path full = target.toAbsolutePath().normalize();
    return full.startsWith("/dev") || full.startsWith("/proc");
  }

  /** That a target cannot be written, and why. */
  public static UncheckedIOException unwritable(Path target, IOException e) {
    return new UncheckedIOException(target + ": cannot be written: " + Reason.of(e), e);
  }
}
