package dev.halter.files;

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

  /**
   * Any file: a name is a path, from {@code folder} unless it is absolute; what is none is an
   * {@link java.nio.file.InvalidPathException}.
   */
  static NamedFiles in(Path folder) {
    return folder::resolve;
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
