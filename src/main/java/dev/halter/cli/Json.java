package dev.halter.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.halter.generation.Result;
import dev.halter.output.OneLine;
import dev.halter.steering.SteeringReport;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** JSON documents of the command line, written from maps, lists, arrays and values. */
final class Json {
  private Json() {}

  /** An object with keys in the order given: key, value, key, value. */
  static Map<String, Object> object(Object... keysAndValues) {
    Map<String, Object> object = new LinkedHashMap<>();
    for (int i = 0; i < keysAndValues.length; i += 2) {
      object.put((String) keysAndValues[i], keysAndValues[i + 1]);
    }
    return object;
  }

  /**
   * A result in the shape of {@code halter generate}.
   *
   * @param text null for a model that has no tokenizer
   */
  static Map<String, Object> result(Result result, String text) {
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

  /** Prints one document on standard output. */
  static void print(Object document) {
    System.out.println(text(document));
  }

  /** A document as one line. */
  static String text(Object document) {
    StringWriter text = new StringWriter();
    try (JsonGenerator json = OneLine.to(text)) {
      write(json, document);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return text.toString();
  }

  private static void write(JsonGenerator json, Object value) throws IOException {
    switch (value) {
      case null -> json.writeNull();
      case String text -> json.writeString(text);
      case Boolean flag -> json.writeBoolean(flag);
      case Integer number -> json.writeNumber(number);
      case Long number -> json.writeNumber(number);
      case Float number -> writeFinite(json, number, number.toString());
      case Double number -> writeFinite(json, number, number.toString());
      case int[] numbers -> json.writeArray(numbers, 0, numbers.length);
      case double[] numbers -> json.writeArray(numbers, 0, numbers.length);
      case Map<?, ?> object -> {
        json.writeStartObject();
        for (Map.Entry<?, ?> entry : object.entrySet()) {
          json.writeFieldName((String) entry.getKey());
          write(json, entry.getValue());
        }
        json.writeEndObject();
      }
      case Iterable<?> list -> {
        json.writeStartArray();
        for (Object item : list) {
          write(json, item);
        }
        json.writeEndArray();
      }
      default -> throw new IllegalArgumentException("no JSON for " + value.getClass());
    }
  }

  /** JSON has no NaN and no infinity. */
  private static void writeFinite(JsonGenerator json, double value, String text)
      throws IOException {
    if (Double.isFinite(value)) {
      json.writeNumber(text);
    } else {
      json.writeNull();
    }
  }
}
