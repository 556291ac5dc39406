package dev.halter.generation;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable.Column;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Results as a table, a row for each: what {@code halter table} makes of the lines of {@code halter
 * batch}, and what a Spark dataset of results holds.
 */
public final class ResultTable {
  /** Its columns; a row without an answer has its id and its error alone. */
  public static final List<Column> COLUMNS =
      List.of(
          Column.text("id"),
          Column.text("text"),
          Column.int32s("tokens"),
          Column.int32("prompt_tokens"),
          Column.text("finish_reason"),
          Column.text("steering_report"),
          Column.text("logprobs"),
          Column.text("prompt_logprobs"),
          Column.text("error"));

  private ResultTable() {}

  /** The row of a document that {@link ResultJson} made, or of an id and an error alone. */
  public static List<Object> row(Map<String, Object> document) {
    List<Object> row = new ArrayList<>();
    for (Column column : COLUMNS) {
      Object value = document.get(column.name());
      row.add(
          switch (column.type()) {
            case INT32_LIST -> value == null ? null : IntStream.of((int[]) value).boxed().toList();
            case INT32 -> value;
            default -> text(value);
          });
    }
    return row;
  }

  /**
   * The row of a result that was read, a value for each column.
   *
   * @throws dev.halter.files.BadFileException naming the key that holds something else
   */
  public static List<Object> row(JsonObject result) {
    List<Object> row = new ArrayList<>();
    for (Column column : COLUMNS) {
      String key = column.name();
      row.add(
          switch (column.type()) {
            case INT32_LIST -> result.has(key) ? result.integers(key) : null;
            case INT32 -> result.has("tokens") ? result.integer(key, 0, Integer.MAX_VALUE) : null;
            default -> text(result.value(key));
          });
    }
    return row;
  }

  /** What has an inside goes as JSON, which all that read tables take apart. */
  private static String text(Object value) {
    return switch (value) {
      case null -> null;
      case String text -> text;
      default -> Json.text(value);
    };
  }
}
