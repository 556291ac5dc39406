package dev.halter.cli;

import static dev.halter.files.Json.object;

import dev.halter.generation.Result;
import dev.halter.steering.SteeringReport;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A result as {@code generate --json} prints it and {@code batch} writes it. */
final class ResultJson {
  private ResultJson() {}

  /** With the result's text, or null for a model that has no tokenizer. */
  static Map<String, Object> of(Result result, String text) {
    List<Map<String, Object>> report = new ArrayList<>();
    for (SteeringReport.Entry entry : result.report().interventions()) {
      Map<String, Object> row =
          object(
              "op", entry.op(),
              "site", entry.site(),
              "tokens", entry.tokens(),
              "mean_change", entry.meanChange());
      if (entry.concepts() != null) {
        row.put("concepts", concepts(entry.concepts()));
      }
      report.add(row);
    }
    Map<String, Object> document =
        object(
            "text", text,
            "tokens", result.tokens(),
            "prompt_tokens", result.request().prompt().length,
            "finish_reason", result.finish().name().toLowerCase(Locale.ROOT),
            "steering_report", object("interventions", report, "notes", result.report().notes()));
    if (result.request().listener() instanceof LogProbabilities thought) {
      document.put("logprobs", thought.of(result.tokens().length));
    }
    return document;
  }

  private static Map<String, Object> concepts(SteeringReport.Concepts concepts) {
    List<Object> removed = new ArrayList<>();
    for (SteeringReport.Removed atom : concepts.removed()) {
      removed.add(
          object(
              "concept", atom.name(),
              "tokens", atom.tokens(),
              "mean_coefficient", atom.meanCoefficient()));
    }
    return object(
        "solved", concepts.solved(),
        "mean_removed", concepts.meanRemoved(),
        "removed", removed,
        "mean_iterations", concepts.meanIterations(),
        "worst_kkt", concepts.worstKkt());
  }
}
