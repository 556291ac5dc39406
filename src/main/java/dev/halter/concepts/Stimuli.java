package dev.halter.concepts;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.TextFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Texts in which concepts occur. Two forms are read:
 *
 * <ul>
 *   <li>a folder as PaCE-1M has it: {@code concept_index.txt}, the list of concepts, and {@code
 *       concept/<concept>.txt}, each a list of texts; both as Python list literals
 *   <li>a file of JSON lines {@code {"concept", "text"}}
 * </ul>
 *
 * <p>A concept that is named twice (PaCE-1M's index has 1,376 such) is one concept.
 */
public abstract sealed class Stimuli {

  /** Marks of turns in the families' templates. */
  private static final Pattern MARK =
      Pattern.compile(
          "<\\|[A-Za-z][A-Za-z0-9_.-]{0,40}\\|>|\\[/?INST]|<</?SYS>>|<(?:start|end)_of_turn>|<s>");

  /** Concepts whose texts are looked at for marks. */
  private static final int LOOKED_AT = 500;

  private final List<String> concepts;
  private final List<String> notes;

  private Stimuli(List<String> concepts, List<String> notes) {
    this.concepts = List.copyOf(concepts);
    this.notes = List.copyOf(notes);
  }

  /** Distinct concepts, in the order of the file. */
  public List<String> concepts() {
    return concepts;
  }

  /** The texts of a concept, at least one. */
  public abstract List<String> texts(int concept);

  /** What a user may not expect, a line each. */
  public List<String> notes() {
    return notes;
  }

  /**
   * What a text has of a chat template already: the first mark of a turn in some of the texts, or
   * nothing. A template around such texts would put a turn into a turn.
   */
  public Optional<String> markup() {
    for (int concept = 0; concept < Math.min(concepts.size(), LOOKED_AT); concept++) {
      for (String text : texts(concept)) {
        Matcher mark = MARK.matcher(text);
        if (mark.find()) {
          return Optional.of(mark.group());
        }
      }
    }
    return Optional.empty();
  }

  /**
   * Reads a folder or a file.
   *
   * @throws BadFileException if it is neither form, or names a concept without texts
   */
  public static Stimuli read(Path path) {
    return Files.isDirectory(path) ? Folder.open(path) : Lines.open(path);
  }

  /** Texts are read when they are asked for: a million of them need not be in memory. */
  private static final class Folder extends Stimuli {
    private final Path folder;

    private Folder(Path folder, List<String> concepts, List<String> notes) {
      super(concepts, notes);
      this.folder = folder;
    }

    static Folder open(Path folder) {
      Path index = folder.resolve("concept_index.txt");
      if (!Files.exists(index)) {
        throw new BadFileException(
            index, "no such file: stimuli are a .jsonl file or a folder with concept_index.txt");
      }
      List<String> listed = PythonList.read(index, TextFile.readUnmarked(index));
      Set<String> distinct = new LinkedHashSet<>(listed);
      List<String> notes = new ArrayList<>();
      if (distinct.size() < listed.size()) {
        notes.add(
            "%,d of %,d concepts of %s are named before and left out"
                .formatted(listed.size() - distinct.size(), listed.size(), index));
      }
      for (String concept : distinct) {
        // Nothing but a plain name: an index must not reach outside its folder.
        if (concept.isBlank() || concept.contains("/") || concept.contains("\0")) {
          throw new BadFileException(index, "names \"" + concept + "\", which can name no file");
        }
        if (!Files.exists(file(folder, concept))) {
          throw new BadFileException(file(folder, concept), "no such file: " + index + " names it");
        }
      }
      if (distinct.isEmpty()) {
        throw new BadFileException(index, "names no concept");
      }
      return new Folder(folder, List.copyOf(distinct), notes);
    }

    private static Path file(Path folder, String concept) {
      return folder.resolve("concept").resolve(concept + ".txt");
    }

    @Override
    public List<String> texts(int concept) {
      Path file = file(folder, concepts().get(concept));
      List<String> texts = PythonList.read(file, TextFile.readUnmarked(file));
      if (texts.isEmpty()) {
        throw new BadFileException(file, "has no text");
      }
      return texts;
    }
  }

  private static final class Lines extends Stimuli {
    private final List<List<String>> texts;

    private Lines(Map<String, List<String>> texts) {
      super(List.copyOf(texts.keySet()), List.of());
      this.texts = List.copyOf(texts.values());
    }

    static Lines open(Path file) {
      Map<String, List<String>> texts = new LinkedHashMap<>();
      for (JsonObject line : JsonObject.readLines(file)) {
        line.only("concept", "text");
        texts.computeIfAbsent(line.text("concept"), c -> new ArrayList<>()).add(line.text("text"));
      }
      if (texts.isEmpty()) {
        throw new BadFileException(file, "has no line: it needs {\"concept\", \"text\"}");
      }
      return new Lines(texts);
    }

    @Override
    public List<String> texts(int concept) {
      return texts.get(concept);
    }
  }
}
