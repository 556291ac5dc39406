package dev.halter.files;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Map;

/** The files that a text may name, such as a plan the files of its vectors. */
@FunctionalInterface
public interface NamedFiles {
  /**
   * The file of a name; whether it is there shows when it is opened.
   *
   * @throws IllegalArgumentException if the name is none, saying why
   */
  Path find(String name);

  /** Any file: a name is a path, from {@code folder} unless it is absolute. */
  static NamedFiles in(Path folder) {
    return name -> {
      try {
        return folder.resolve(name);
      } catch (InvalidPathException e) {
        throw new BadFileException(folder, "a file there has no valid name: " + e.getReason(), e);
      }
    };
  }

  /** These files and no others: for texts that strangers write. */
  static NamedFiles only(Map<String, Path> files) {
    Map<String, Path> known = Map.copyOf(files);
    return name -> {
      Path file = known.get(name);
      if (file == null) {
        throw new IllegalArgumentException(
            known.isEmpty()
                ? "there are no files to name here"
                : "\""
                    + name
                    + "\" is no name here: there are "
                    + String.join(", ", known.keySet().stream().sorted().toList()));
      }
      return file;
    };
  }
}
