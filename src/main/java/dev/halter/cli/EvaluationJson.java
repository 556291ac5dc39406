package dev.halter.cli;

import dev.halter.evaluation.AnswerJson;
import dev.halter.evaluation.Judge;
import dev.halter.evaluation.PlanEvaluation.Report;
import dev.halter.evaluation.PlanEvaluation.Row;
import dev.halter.evaluation.PlanEvaluation.Scored;
import dev.halter.evaluation.PlanEvaluation.Tried;
import dev.halter.evaluation.Reading;
import dev.halter.evaluation.Task;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Interval;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** An evaluation of plans as JSON. */
final class EvaluationJson {
  private final Tried tried;
  private final LanguageModel model;
  private final Judge judge;

  /** Of what is tried; {@code judge} is null if none is asked. */
  EvaluationJson(Tried tried, LanguageModel model, Judge judge) {
    this.tried = tried;
    this.model = model;
    this.judge = judge;
  }

  /** {@code {"model", …, "tasks": […], "rows": […]}}. */
  Map<String, Object> document(Report report) {
    Map<String, Object> document = tried();
    document.put("rows", report.rows().stream().map(EvaluationJson::row).toList());
    return document;
  }

  /** What is tried. */
  Map<String, Object> tried() {
    List<Object> tasks = new ArrayList<>();
    for (Task task : tried.tasks()) {
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
        "plans", tried.plans().stream().map(plan -> plan.name()).toList(),
        "doses", tried.doses(),
        "draws", tried.draws(),
        "seed", tried.seed(),
        "judge",
            judge == null ? null : Json.object("model", judge.name(), "prompts", Judge.VERSION),
        "halved", tried.isHalved());
  }

  /** What a reading gave. */
  Map<String, Object> answer(Reading reading) {
    return AnswerJson.of(reading, tried.reports(reading));
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }

  /** An arm's figures. */
  static Map<String, Object> row(Row row) {
    List<Object> scores = new ArrayList<>();
    for (Scored scored : row.scores()) {
      scores.add(
          Json.object(
              "task", scored.task().name(),
              "score", interval(scored.score()),
              "difference", interval(scored.difference()),
              "unscored", scored.unscored()));
    }
    Map<String, Object> object = AnswerJson.of(row.arm());
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
