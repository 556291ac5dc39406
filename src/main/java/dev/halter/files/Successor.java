package dev.halter.files;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.regex.Pattern;

/**
 * A file or folder that grows beside its place and takes it in one step when it is complete, so
 * that readers see the old one or the whole new one. Until then a signal takes it away; what a kill
 * leaves is taken away by the next one for the same place. To a pipe or a device it writes as it
 * goes.
 */
public final class Successor implements AutoCloseable {
  /** In a folder that grows: holds the lock. */
  private static final String LOCK = ".growing";

  private final Path target;
  private final Path growing;
  private final FileChannel channel; // locked as long as this one lives
  private final Thread onSignal = new Thread(this::remove, "halter-discard");
  private boolean closed;

  private Successor(Path target, Path growing, Path opened) throws IOException {
    this.target = target;
    this.growing = growing;
    if (!isStream()) {
      Runtime.getRuntime().addShutdownHook(onSignal); // before there is something to take away
    }
    try {
      channel =
          isStream()
              ? Destination.open(target)
              : FileChannel.open(opened, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW);
    } catch (IOException e) {
      forget();
      throw e;
    }
    if (!isStream()) {
      lock(channel);
    }
  }

  /** Begins a file. */
  public static Successor file(Path target) throws IOException {
    Destination.check(target);
    if (Destination.isStream(target)) {
      return new Successor(target, target, target);
    }
    Path growing = name(target);
    return new Successor(target, growing, growing);
  }

  /** Begins a folder, and the folders that it lies in. */
  public static Successor folder(Path target) throws IOException {
    Files.createDirectories(target.toAbsolutePath().getParent());
    Path growing = Files.createDirectory(name(target));
    return new Successor(target, growing, growing.resolve(LOCK));
  }

  /** A name that nothing has, after what was left of earlier ones is gone. */
  private static Path name(Path target) throws IOException {
    Pattern ours =
        Pattern.compile(Pattern.quote(target.getFileName().toString()) + "\\.[0-9a-f]{6,16}\\.tmp");
    try (var siblings = Files.list(target.toAbsolutePath().getParent())) {
      siblings
          .filter(file -> ours.matcher(file.getFileName().toString()).matches())
          .filter(Successor::isLeft)
          .forEach(Successor::remove);
    }
    String made = Long.toHexString(System.nanoTime() | 1L << 40);
    return target.resolveSibling(target.getFileName() + "." + made + ".tmp");
  }

  /** Whether nothing alive writes to it. */
  private static boolean isLeft(Path growing) {
    Path locked = Files.isDirectory(growing) ? growing.resolve(LOCK) : growing;
    try (FileChannel channel = FileChannel.open(locked, StandardOpenOption.WRITE);
        FileLock free = channel.tryLock()) {
      return free != null;
    } catch (IOException | OverlappingFileLockException e) {
      return false; // or nothing of ours
    }
  }

  private static void lock(FileChannel channel) {
    try {
      FileLock unused = channel.tryLock(); // held until the channel is closed
    } catch (IOException e) {
      // A file system without locks: only what tells this one from one that was left is missing.
    }
  }

  /** Where it grows. */
  public Path path() {
    return growing;
  }

  /** What a file's bytes are written to, from the first to the last. */
  public FileChannel channel() {
    return channel;
  }

  private boolean isStream() {
    return growing == target;
  }

  /** Takes its place; a file is on disk then. */
  public void takePlace() throws IOException {
    if (isStream()) {
      return;
    }
    if (Files.isDirectory(growing)) {
      Files.delete(growing.resolve(LOCK));
    } else {
      channel.force(true); // or a crash could leave the name without the content
    }
    Files.move(growing, target, StandardCopyOption.ATOMIC_MOVE);
  }

  /** Removes what has not taken its place. */
  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    try {
      channel.close();
    } catch (IOException e) {
      // Nothing that was written and is wanted: takePlace has seen to that.
    }
    if (!isStream()) {
      remove();
      forget();
    }
  }

  private void forget() {
    try {
      Runtime.getRuntime().removeShutdownHook(onSignal);
    } catch (IllegalStateException e) {
      // The process ends already.
    }
  }

  private void remove() {
    remove(growing);
  }

  private static void remove(Path growing) {
    try {
      if (Files.isDirectory(growing)) {
        List<Path> files;
        try (var entries = Files.list(growing)) {
          files = entries.toList();
        }
        for (Path file : files) {
          Files.delete(file);
        }
      }
      Files.deleteIfExists(growing);
    } catch (IOException e) {
      // The error that brought us here says more than that something stayed behind.
    }
  }
}
