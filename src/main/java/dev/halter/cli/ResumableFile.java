package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.GrowingFile;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * What a command makes of its work, a JSON object a line, each on disk as soon as it stands, so
 * that a run that was cut off can go on. After a kill the last line may be cut off: going on takes
 * it away.
 */
final class ResumableFile implements AutoCloseable {
  private static final int MOST_BYTES = Integer.MAX_VALUE - 8; // of an array

  private final Path file;
  private final List<String> lines;
  private GrowingFile growing;

  /**
   * Opens a file, or begins one.
   *
   * @param command that writes it, for errors
   * @param start how each of its lines begins
   * @param resume go on with a file that is there; otherwise one that holds results is refused
   * @throws BadFileException if what a kill left of the last line is of something else
   */
  ResumableFile(Path file, String command, String start, boolean resume) {
    this.file = real(file);
    this.growing = new GrowingFile(file, MOST_BYTES);
    this.lines = growing.lines().lines().toList();
    try {
      if (!resume && !(growing.lines() + growing.rest()).isEmpty()) {
        throw new BadFileException(
            file, "holds results already: add --resume to go on with it, or name another file");
      }
      // Only what a kill can leave of a line is taken away, never a file that is something else;
      // after a loss of power a file may have its length but not its last bytes, which read as NUL.
      String begun = growing.rest().replaceFirst("[\0\\s]+$", "");
      if (!begun.startsWith(start) && !start.startsWith(begun)) {
        throw new BadFileException(
            file, "line %d is no result of %s".formatted(lines.size() + 1, command));
      }
    } catch (RuntimeException e) {
      growing.close();
      throw e;
    }
  }

  /** The file itself where its name is a link, which stays. */
  private static Path real(Path file) {
    try {
      return Files.isSymbolicLink(file) ? file.toRealPath() : file;
    } catch (IOException e) {
      return file; // opening it will say why
    }
  }

  Path file() {
    return file;
  }

  /** The whole lines that stood when it was opened, blank ones too. */
  List<String> lines() {
    return lines;
  }

  /** Leaves nothing but these of its lines, in one step: a kill must not cost results. */
  void keep(List<String> kept) {
    if (!growing.rest().isBlank()) {
      System.err.printf(
          "halter: %s, line %d was cut off: it is taken away and done again%n",
          file, lines.size() + 1);
    }
    if (kept.size() < lines.size()) {
      WholeFile.write(
          file,
          out -> {
            for (String line : kept) {
              out.write(line + "\n");
            }
          });
      growing.close();
      growing = new GrowingFile(file, MOST_BYTES);
    }
    growing.keepLines();
  }

  /** Appends a line. */
  void append(Object document) {
    growing.append(Json.text(document) + "\n");
  }

  @Override
  public void close() {
    growing.close();
  }
}
