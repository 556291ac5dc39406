package dev.halter.cli;

import dev.halter.evaluation.Arm;
import dev.halter.evaluation.Judge;
import dev.halter.evaluation.PlanEvaluation.Report;
import dev.halter.evaluation.PlanEvaluation.Row;
import dev.halter.evaluation.PlanEvaluation.Scored;
import dev.halter.evaluation.Reading;
import dev.halter.evaluation.Task;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Interval;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** An evaluation of plans as one document, and as lines that hold every answer too. */
final class EvaluationJson {
  private final Report report;
  private final LanguageModel model;
  private final Judge judge;

  /** Of a report; {@code judge} is null if none was asked. */
  EvaluationJson(Report report, LanguageModel model, Judge judge) {
    this.report = report;
    this.model = model;
    this.judge = judge;
  }

  /** {@code {"model", …, "tasks": […], "rows": […]}}. */
  Map<String, Object> document() {
    Map<String, Object> document = tried();
    document.put("rows", report.rows().stream().map(EvaluationJson::row).toList());
    return document;
  }

  /** What was tried, then answers, then rows, told apart by {@code "line"}. */
  List<Map<String, Object>> lines() {
    List<Map<String, Object>> lines = new ArrayList<>();
    lines.add(line("evaluation", tried()));
    report.readings().forEach(reading -> lines.add(line("answer", answer(reading))));
    report.rows().forEach(row -> lines.add(line("row", row(row))));
    return lines;
  }

  private static Map<String, Object> line(String kind, Map<String, Object> more) {
    Map<String, Object> line = Json.object("line", kind);
    line.putAll(more);
    return line;
  }

  private Map<String, Object> tried() {
    List<Object> tasks = new ArrayList<>();
    for (Task task : report.tasks()) {
      tasks.add(
          Json.object(
              "task", task.name(),
              "measures", lower(task.measures()),
              "unit", task.score().unit(),
              "low", task.score().low(),
              "high", task.score().high(),
              "aim", task.more() ? "more" : "less",
              "items", task.items().size()));
    }
    return Json.object(
        "model", model.folder().toAbsolutePath().normalize().getFileName().toString(),
        "fingerprint", model.llama().fingerprint(),
        "device", model.device().description(),
        "tasks", tasks,
        "plans", report.tried().plans().stream().map(plan -> plan.name()).toList(),
        "doses", report.tried().doses(),
        "draws", report.tried().draws(),
        "seed", report.tried().seed(),
        "judge",
            judge == null ? null : Json.object("model", judge.name(), "prompts", Judge.VERSION),
        "halved", report.halved());
  }

  private Map<String, Object> answer(Reading reading) {
    Map<String, Object> answer =
        Json.object("task", reading.task().name(), "id", reading.item().id());
    answer.putAll(arm(reading.arm()));
    answer.put("draw", reading.draw());
    answer.put("reported", report.reports(reading));
    answer.put("text", reading.text());
    answer.put("score", reading.score());
    answer.put("choice_logprobs", list(reading.logProbabilities()));
    answer.put("ratings", list(reading.ratings()));
    answer.put("perplexity", reading.perplexity());
    answer.put("entropy", reading.entropy());
    answer.put("distance", reading.distance());
    answer.put("same", reading.isSame());
    return answer;
  }

  private static List<Double> list(double... values) {
    return values == null ? null : Arrays.stream(values).boxed().toList();
  }

  private static Map<String, Object> arm(Arm arm) {
    return Json.object(
        "arm", lower(arm.kind()),
        "plan", arm.kind() == Arm.Kind.PROMPTING ? null : arm.plan(),
        "prompting", arm.prompting(),
        "dose", arm.dose());
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }

  private static Map<String, Object> row(Row row) {
    List<Object> scores = new ArrayList<>();
    for (Scored scored : row.scores()) {
      scores.add(
          Json.object(
              "task", scored.task().name(),
              "score", interval(scored.score()),
              "difference", interval(scored.difference()),
              "unscored", scored.unscored()));
    }
    Map<String, Object> object = arm(row.arm());
    object.put("chosen", row.chosen());
    object.put("scores", scores);
    object.put("entropy", interval(row.entropy()));
    for (int n = 1; n <= row.distinct().size(); n++) {
      object.put("distinct_" + n, interval(row.distinct().get(n - 1)));
    }
    object.put("perplexity", interval(row.perplexity()));
    object.put("distance", interval(row.distance()));
    object.put("same", row.same());
    object.put("items", row.items());
    object.put("idle", row.isIdle());
    object.put("untold", row.isUntold());
    return object;
  }

  static Map<String, Object> interval(Interval interval) {
    return Json.object(
        "value", interval.value(),
        "low", interval.low(),
        "high", interval.high(),
        "n", interval.n());
  }
}
