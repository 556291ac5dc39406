package dev.halter.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * README or one of the documents, and its examples.
 *
 * <p>Examples are the blocks that are marked {@code console}: lines after {@code $} are commands
 * (those after {@code >}, and those after a line that ends in a backslash, go on), all others are
 * lines of their output, in their order; the output may have others in between, and go on where a
 * line ends in an ellipsis.
 */
final class Page {
  static final Path DOCUMENTS = Path.of("src/main/doc");

  private final Path file;
  private final List<String> lines;

  /** Lines of the page that had their say before they were written anew, by their place. */
  private final TreeMap<Integer, String> replaced = new TreeMap<>();

  private final Set<Integer> surplus = new TreeSet<>();

  /** A line of an output, and where the page has it, counted from 0. */
  record Shown(int place, String text) {}

  /**
   * A command and what the page shows of its output.
   *
   * @param place of the command's first line
   */
  record Example(int place, String command, List<Shown> output) {}

  private Page(Path file, List<String> lines) {
    this.file = file;
    this.lines = lines;
  }

  static Page read(Path file) throws IOException {
    return new Page(file, new ArrayList<>(Files.readAllLines(file)));
  }

  static Page of(String... lines) {
    return new Page(Path.of("page.md"), new ArrayList<>(List.of(lines)));
  }

  /** All that there are. */
  static List<Path> files() throws IOException {
    try (Stream<Path> documents = Files.list(DOCUMENTS)) {
      List<Path> pages =
          documents.filter(file -> file.toString().endsWith(".md")).sorted().toList();
      return Stream.concat(Stream.of(Path.of("README.md")), pages.stream()).toList();
    }
  }

  List<String> lines() {
    return List.copyOf(lines);
  }

  List<Example> examples() {
    List<Example> examples = new ArrayList<>();
    boolean inside = false;
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i).strip();
      if (line.startsWith("```")) {
        inside = !inside && line.equals("```console");
      } else if (inside && line.startsWith("$ ")) {
        examples.add(new Example(i, line.substring(2), new ArrayList<>()));
      } else if (inside && goesOn(examples, line)) {
        Example last = examples.removeLast();
        String more = line.startsWith("> ") ? line.substring(2) : line;
        String command = last.command + "\n" + more;
        examples.add(new Example(last.place, command, last.output));
      } else if (inside && !line.isEmpty()) {
        examples.getLast().output.add(new Shown(i, line));
      }
    }
    return examples;
  }

  private static boolean goesOn(List<Example> examples, String line) {
    return line.startsWith("> ") || examples.getLast().command.endsWith("\\");
  }

  /** What a failure says of where it is. */
  String where(Example example) {
    return file + ":" + (example.place + 1) + ": " + example.command;
  }

  /**
   * Puts what was printed in the place of what is shown: the lines that are most like those that
   * were, as many and in their order. One that says the same, but for times, stays as it is.
   */
  void show(Example example, List<String> printed) {
    List<String> shown = example.output.stream().map(Shown::text).toList();
    int[] partners = OutputLine.partners(shown, printed);
    for (int i = 0; i < shown.size(); i++) {
      int place = example.output.get(i).place;
      String old = lines.get(place);
      if (partners[i] < 0) {
        surplus.add(place);
        replaced.put(place, old);
      } else if (!OutputLine.isSaid(shown.get(i), printed.get(partners[i]))) {
        String indent = " ".repeat(indentOfBlock(place));
        String line = indent + OutputLine.cutAs(shown.get(i), printed.get(partners[i]));
        if (!line.equals(old)) {
          replaced.put(place, old);
          lines.set(place, line);
        }
      }
    }
  }

  /** How far the block around a line is indented, as in a list. */
  private int indentOfBlock(int place) {
    int fence = place;
    while (!lines.get(fence).strip().startsWith("```")) {
      fence--;
    }
    return lines.get(fence).indexOf('`');
  }

  /** Writes the page without the lines that nothing is printed for any more. */
  void write() throws IOException {
    List<String> kept = new ArrayList<>();
    for (int i = 0; i < lines.size(); i++) {
      if (!surplus.contains(i)) {
        kept.add(lines.get(i));
      }
    }
    Files.write(file, kept);
  }

  /** Lines that were written anew, each as it was and as it is. */
  List<String> changes() {
    List<String> changes = new ArrayList<>();
    replaced.forEach(
        (place, old) -> {
          changes.add(file + ":" + (place + 1));
          changes.add("  - " + old.strip());
          if (!surplus.contains(place)) {
            changes.add("  + " + lines.get(place).strip());
          }
        });
    return changes;
  }

  /**
   * Lines outside of blocks that hold a number which the examples' output had and has no longer:
   * what people wrote about it, and have to look at.
   */
  List<String> stale() {
    Set<String> gone = new TreeSet<>();
    replaced.values().forEach(line -> gone.addAll(OutputLine.figures(line)));
    List<String> stale = new ArrayList<>();
    List<String> prose = new ArrayList<>();
    boolean inside = false;
    boolean isTable = false;
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i);
      if (line.strip().startsWith("```")) {
        inside = !inside;
      } else if (line.startsWith("<!-- results:") || line.startsWith("<!-- end of results")) {
        isTable = line.startsWith("<!-- results:");
      } else if (inside && !surplus.contains(i)) {
        gone.removeAll(OutputLine.figures(line));
      } else if (!isTable) {
        prose.add(file + ":" + (i + 1) + ": " + line.strip());
      }
    }
    for (String line : prose) {
      Set<String> quoted = OutputLine.figures(line.substring(line.indexOf(": ") + 2));
      quoted.retainAll(gone);
      if (!quoted.isEmpty()) {
        stale.add(line + "  " + quoted);
      }
    }
    return stale;
  }
}
