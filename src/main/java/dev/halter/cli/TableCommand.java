package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable;
import dev.halter.files.ParquetTable.Column;
import dev.halter.patching.EffectsTable;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(
    name = "table",
    description = {
      "Writes results of batch or effects of heads patch as Parquet, for SQL and Spark.",
      "Maps are written so by map --export."
    })
final class TableCommand implements Callable<Integer> {
  /** Of a table of results, a row a line. */
  private static final List<Column> RESULTS =
      List.of(
          Column.text("id"),
          Column.text("text"),
          Column.int32s("tokens"),
          Column.int32("prompt_tokens"),
          Column.text("finish_reason"),
          Column.text("steering_report"),
          Column.text("logprobs"),
          Column.text("error"));

  @Parameters(paramLabel = "FILE", description = "Results or effects.")
  Path file;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Parquet file to write.")
  Path out;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    int rows =
        switch (WrittenFile.of(file)) {
          case RESULTS -> results();
          case EFFECTS -> EffectsTable.write(JsonObject.read(file), out);
          case TENSORS ->
              throw new BadFileException(
                  file,
                  "is no results and no effects; a map is written as Parquet by map --export");
        };
    if (output.isJson()) {
      output.print(Json.object("rows", rows, "out", out.toString()));
    } else {
      System.out.printf("%,d rows: %s%n", rows, out);
    }
    return 0;
  }

  private int results() {
    int[] count = {0};
    ParquetTable.write(
        out,
        Map.of("format", "halter batch"),
        RESULTS,
        rows ->
            count[0] =
                ResultLines.each(
                    file,
                    (place, line) ->
                        add(rows, JsonObject.parse(place, line.getBytes(StandardCharsets.UTF_8)))));
    return count[0];
  }

  /** A line that was not answered has its error alone. */
  private static void add(ParquetTable rows, JsonObject result) throws IOException {
    if (result.keys().contains("custom_id")) {
      throw new BadFileException(
          result.file(), "answers one of OpenAI's lines; a table is made of Halter's own results");
    }
    text(rows, result.value("id"));
    text(rows, result.value("text"));
    if (result.has("tokens")) {
      rows.add(result.integers("tokens"));
      rows.add(result.integer("prompt_tokens", 0, Integer.MAX_VALUE));
    } else {
      rows.addNull().addNull();
    }
    text(rows, result.value("finish_reason"));
    text(rows, result.value("steering_report"));
    text(rows, result.value("logprobs"));
    text(rows, result.value("error"));
  }

  /** What has an inside goes as JSON, which all that read Parquet take apart. */
  private static void text(ParquetTable rows, Object value) throws IOException {
    switch (value) {
      case null -> rows.addNull();
      case String text -> rows.add(text);
      default -> rows.add(Json.text(value));
    }
  }
}
