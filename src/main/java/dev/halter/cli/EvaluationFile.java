package dev.halter.cli;

import dev.halter.evaluation.AnswerJson;
import dev.halter.evaluation.FinishedItems;
import dev.halter.evaluation.PlanEvaluation.Row;
import dev.halter.evaluation.Reading;
import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * An evaluation as lines, told apart by {@code "line"}: {@code evaluation}, what is tried and by
 * which run; {@code answer}, those of an item as soon as all of its arms have theirs; and at the
 * end {@code row}, an arm's figures. Going on keeps the items that have all their answers, and
 * takes away the rest.
 */
final class EvaluationFile implements FinishedItems {
  /** How every line begins. */
  static final String START = "{\"line\":";

  /** A line, and what it says. */
  private record Line(String text, JsonObject json) {}

  private final ResumableFile lines;
  private final EvaluationJson json;
  private Map<String, Object> first; // line, until it stands

  /** Into, or on with, a file that is closed by whoever opened it. */
  EvaluationFile(ResumableFile lines, EvaluationJson json) {
    this.lines = lines;
    this.json = json;
  }

  @Override
  public List<List<Reading>> restore(Map<String, String> run, List<List<Reading>> items) {
    List<Line> all = all();
    if (all.isEmpty()) {
      lines.keep(List.of());
      first = line("evaluation", json.tried());
      first.put("run", run);
      return items;
    }
    requireSame(run, all.getFirst().json);
    Map<Object, Line> answers = new HashMap<>();
    for (Line line : all) {
      if (line.json.text("line").equals("answer")) {
        answers.put(AnswerJson.key(line.json), line);
      }
    }
    List<String> kept = new ArrayList<>(List.of(all.getFirst().text));
    List<List<Reading>> open = new ArrayList<>();
    for (List<Reading> item : items) {
      if (item.stream().allMatch(reading -> isFinished(reading, answers))) {
        for (Reading reading : item) {
          Line line = answers.get(AnswerJson.key(reading));
          AnswerJson.read(line.json, reading);
          kept.add(line.text);
        }
      } else {
        open.add(item);
      }
    }
    lines.keep(kept);
    return open;
  }

  private static boolean isFinished(Reading reading, Map<Object, Line> answers) {
    Line line = answers.get(AnswerJson.key(reading));
    return line != null && AnswerJson.isFinished(reading, line.json);
  }

  /** The lines of a file that an evaluation has begun. */
  private List<Line> all() {
    List<Line> all = new ArrayList<>();
    int number = 0;
    for (String text : lines.lines()) {
      number++;
      if (!text.isBlank()) {
        Path place = Path.of(lines.file() + ", line " + number);
        JsonObject line = JsonObject.parse(place, text.getBytes(StandardCharsets.UTF_8));
        line.text("line"); // or it is of something else
        all.add(new Line(text, line));
      }
    }
    if (!all.isEmpty() && !all.getFirst().json.text("line").equals("evaluation")) {
      throw new BadFileException(
          lines.file(),
          "is no result of halter evaluate: its first line does not say what is tried");
    }
    return all;
  }

  private void requireSame(Map<String, String> run, JsonObject first) {
    JsonObject other = first.object("run");
    List<String> differing =
        run.keySet().stream().filter(name -> !run.get(name).equals(other.value(name))).toList();
    if (!differing.isEmpty()) {
      throw new BadFileException(
          lines.file(),
          "is of another run, which differs in "
              + String.join(", ", differing)
              + ": give the options of that run, or name another file");
    }
  }

  @Override
  public void keep(List<Reading> item) {
    if (first != null) { // not before, so that a run that cannot be leaves nothing
      lines.append(first);
      first = null;
    }
    item.forEach(reading -> lines.append(line("answer", json.answer(reading))));
  }

  /** The end: all figures. */
  void end(List<Row> rows) {
    rows.forEach(row -> lines.append(line("row", EvaluationJson.row(row))));
  }

  private static Map<String, Object> line(String kind, Map<String, Object> more) {
    Map<String, Object> line = Json.object("line", kind);
    line.putAll(more);
    return line;
  }
}
