package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.ParquetTable;
import dev.halter.generation.ResultTable;
import dev.halter.patching.EffectsTable;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
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
        ResultTable.COLUMNS,
        rows ->
            count[0] =
                ResultLines.each(
                    file,
                    (place, line) ->
                        rows.row(
                            ResultTable.row(
                                own(
                                    JsonObject.parse(
                                        place, line.getBytes(StandardCharsets.UTF_8)))))));
    return count[0];
  }

  /** Results of OpenAI's lines have other columns. */
  private static JsonObject own(JsonObject result) {
    if (result.keys().contains("custom_id")) {
      throw new BadFileException(
          result.file(), "answers one of OpenAI's lines; a table is made of Halter's own results");
    }
    return result;
  }
}
