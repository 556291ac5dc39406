package dev.halter.cli;

import dev.halter.weights.BadFileException;
import dev.halter.weights.JsonObject;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashSet;
import java.util.Set;

/**
 * Results of a batch, a JSON object a line, each on disk as soon as it stands. After a kill the
 * last line may be cut off: resuming takes it away and keeps the rest.
 */
final class ResultFile implements AutoCloseable {
  /** How every result begins. */
  private static final String START = "{\"id\":";

  private final Path file;
  private final FileChannel channel;
  private final Set<String> done = new HashSet<>();

  /**
   * Opens a result file.
   *
   * @param resume go on with a file that is there; otherwise one that holds results is refused
   */
  ResultFile(Path file, boolean resume) {
    this.file = file;
    try {
      if (!resume && Files.exists(file) && Files.size(file) > 0) {
        throw new BadFileException(
            file, "holds results already: add --resume to go on with it, or name another file");
      }
      this.channel =
          FileChannel.open(
              file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
      try {
        if (channel.tryLock() == null) {
          throw inUse();
        }
        readDone();
      } catch (OverlappingFileLockException e) {
        channel.close();
        throw inUse();
      } catch (IOException | RuntimeException e) {
        channel.close();
        throw e;
      }
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be opened: " + e.getMessage(), e);
    }
  }

  private BadFileException inUse() {
    return new BadFileException(file, "another process writes to it");
  }

  private void readDone() throws IOException {
    // Through the channel: closing a second one to the file would give up the lock.
    ByteBuffer read = ByteBuffer.allocate(Math.toIntExact(channel.size()));
    while (read.hasRemaining() && channel.read(read) >= 0) {}
    byte[] bytes = read.array();
    int begin = 0;
    int number = 1;
    for (int i = 0; i < bytes.length; i++) {
      if (bytes[i] == '\n') {
        byte[] line = java.util.Arrays.copyOfRange(bytes, begin, i);
        JsonObject json = JsonObject.parse(Path.of(file + ", line " + number), line);
        if (json.has("id")) {
          done.add(json.value("id").toString());
        } else if (json.has("line")) {
          done.add(lineKey(json.integer("line", 1, Integer.MAX_VALUE)));
        } else {
          throw new BadFileException(file, "line " + number + " is no result: it has no id");
        }
        begin = i + 1;
        number++;
      }
    }
    // Only what a kill can leave of a result is taken away, never a file that is something else.
    String rest = new String(bytes, begin, bytes.length - begin, StandardCharsets.UTF_8);
    if (!rest.startsWith(START) && !START.startsWith(rest)) {
      throw new BadFileException(file, "line " + number + " is no result of halter batch");
    }
    channel.truncate(begin);
    channel.position(begin);
  }

  private static String lineKey(int number) {
    return "\0line " + number; // no id can be this
  }

  /** Whether a line's result stands already. */
  boolean has(InputLine line) {
    return done.contains(line.id() == null ? lineKey(line.number()) : line.id().toString());
  }

  /** Appends a result. */
  void write(Object document) {
    ByteBuffer bytes =
        ByteBuffer.wrap((Json.text(document) + "\n").getBytes(StandardCharsets.UTF_8));
    try {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be written: " + e.getMessage(), e);
    }
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be closed: " + e.getMessage(), e);
    }
  }
}
