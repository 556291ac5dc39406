package dev.halter.spark;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable.Column;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;
import scala.jdk.javaapi.CollectionConverters;

/** Rows as the JSON objects that Halter's own inputs are, and tables of Halter as datasets. */
final class RowJson {
  static final String ID = "id";

  /** The name of the one column of a dataset of lines. */
  static final String LINE = "value";

  /** Keys whose values have an inside, which a column may hold as JSON. */
  private static final Set<String> NESTED =
      Set.of("messages", "logit_bias", "allowed_token_ids", "logprob_token_ids", "spans");

  private static final Path ROW = Path.of("row");

  private RowJson() {}

  /**
   * Whether rows are lines of JSON: one column of text by the name that Spark's readers give it.
   */
  static boolean isLines(StructType schema) {
    return schema.length() == 1
        && schema.fields()[0].name().equals(LINE)
        && schema.fields()[0].dataType().equals(DataTypes.StringType);
  }

  /**
   * A dataset whose columns are all read; of lines, those that are not blank.
   *
   * @param kept columns that are passed on
   * @throws IllegalArgumentException naming a column that would go unread, or is missing
   */
  static Dataset<Row> checked(Dataset<Row> rows, List<String> keys, List<String> kept) {
    List<String> names = List.of(rows.schema().fieldNames());
    for (String column : kept) {
      if (!names.contains(column)) {
        throw new IllegalArgumentException(
            "there is no column '%s' to keep: there are %s"
                .formatted(column, String.join(", ", names)));
      }
    }
    if (isLines(rows.schema())) {
      return rows.where("length(trim(value)) > 0");
    }
    if (!names.contains(ID)) {
      throw new IllegalArgumentException(
          "there is no column 'id': a row's draws and its result go by it; there are "
              + String.join(", ", names));
    }
    for (String name : names) {
      if (!name.equals(ID) && !keys.contains(name) && !kept.contains(name)) {
        throw new IllegalArgumentException(
            ("column '%s' would go unread: drop it, pass it on with keep(\"%s\"), or rename it to one"
                    + " of %s")
                .formatted(name, name, String.join(", ", keys)));
      }
    }
    return rows;
  }

  /**
   * The object of a row.
   *
   * @param defaults for keys whose column is not there or null
   * @throws IllegalArgumentException if a value is none of JSON's, or a line is no object
   */
  static JsonObject of(Row row, List<String> keys, Map<String, Object> defaults) {
    if (isLines(row.schema())) {
      JsonObject line = parse(row.getString(0));
      line.only(Stream.concat(Stream.of(ID), keys.stream()).toArray(String[]::new));
      return line.withDefaults(defaults);
    }
    Map<String, Object> values = new LinkedHashMap<>();
    for (StructField column : row.schema().fields()) {
      String key = column.name();
      Object value = row.getAs(key);
      if (value != null && (key.equals(ID) || keys.contains(key))) {
        values.put(key, value(key, value));
      }
    }
    return parse(Json.text(values)).withDefaults(defaults);
  }

  /** What lies in a parsed object stays what it is, of a row what JSON has for it. */
  private static Object value(String key, Object value) {
    if (value instanceof String text
        && (NESTED.contains(key) || key.equals("plan") && isObject(text))) {
      return JsonObject.parseList(ROW, key, text.getBytes(StandardCharsets.UTF_8)).value(key);
    }
    return key.equals("plan") && value instanceof String name ? planFile(name) : json(key, value);
  }

  private static Object json(String key, Object value) {
    return switch (value) {
      case String text -> text;
      case Boolean flag -> flag;
      case Byte number -> (int) number;
      case Short number -> (int) number;
      case Integer number -> number;
      case Long number -> number;
      case Float number -> finite(key, number, number);
      case Double number -> finite(key, number, number);
      case Row row -> {
        Map<String, Object> object = new LinkedHashMap<>();
        for (String name : row.schema().fieldNames()) {
          if (row.getAs(name) != null) {
            object.put(name, json(key, row.getAs(name)));
          }
        }
        yield object;
      }
      case scala.collection.Map<?, ?> map -> {
        Map<String, Object> object = new LinkedHashMap<>();
        CollectionConverters.asJava(map)
            .forEach((name, item) -> object.put(name.toString(), json(key, item)));
        yield object;
      }
      case scala.collection.Iterable<?> items -> {
        List<Object> list = new ArrayList<>();
        CollectionConverters.asJava(items).forEach(item -> list.add(json(key, item)));
        yield list;
      }
      default ->
          throw new IllegalArgumentException(
              "column '%s' holds a %s, which JSON has not"
                  .formatted(key, value.getClass().getSimpleName()));
    };
  }

  private static Object finite(String key, double value, Object number) {
    if (!Double.isFinite(value)) {
      throw new IllegalArgumentException("column '%s' holds %s".formatted(key, value));
    }
    return number;
  }

  static JsonObject parse(String json) {
    return JsonObject.parse(ROW, json.getBytes(StandardCharsets.UTF_8));
  }

  /** A row's id as text; null where there is none to be read. */
  static String id(Row row) {
    if (!isLines(row.schema())) {
      Object id = row.getAs(ID);
      return id == null ? null : id.toString();
    }
    try {
      Object id = parse(row.getString(0)).value(ID);
      return id == null ? null : id.toString();
    } catch (IllegalArgumentException e) {
      return null;
    }
  }

  /**
   * The id of an object.
   *
   * @throws IllegalArgumentException if it has none
   */
  static String id(JsonObject json) {
    Object id = json.value(ID);
    if (id instanceof String || id instanceof Integer || id instanceof Long) {
      return id.toString();
    }
    throw json.wrong(ID, "a string or an integer");
  }

  /** Without the name that stands for the place of what was parsed. */
  static String problem(String message) {
    return message.startsWith(ROW + ": ")
        ? message.substring(ROW.toString().length() + 2)
        : message;
  }

  /** Whether a text is a plan, and not the name of one. */
  static boolean isObject(String plan) {
    return plan.stripLeading().startsWith("{");
  }

  /** The file of a plan that is named. */
  static String planFile(String name) {
    return name.endsWith(".json") ? name : name + ".json";
  }

  /** The schema of a table. */
  static StructType schema(List<Column> columns) {
    return DataTypes.createStructType(columns.stream().map(RowJson::field).toList());
  }

  private static StructField field(Column column) {
    DataType type =
        switch (column.type()) {
          case INT32 -> DataTypes.IntegerType;
          case FLOAT -> DataTypes.FloatType;
          case DOUBLE -> DataTypes.DoubleType;
          case STRING -> DataTypes.StringType;
          case INT32_LIST -> DataTypes.createArrayType(DataTypes.IntegerType, false);
        };
    return DataTypes.createStructField(column.name(), type, true);
  }

  /** A value of a table as Spark's rows hold it. */
  static Object cell(Object value) {
    return value instanceof List<?> numbers
        ? numbers.stream().mapToInt(number -> (Integer) number).toArray()
        : value;
  }
}
