package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.ParquetTable.Column;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What parquet-java writes is read by DuckDB. */
class ParquetTableTest {
  private static final List<Column> COLUMNS =
      List.of(Column.int32("id"), Column.number("value"), Column.text("name"));

  @TempDir Path folder;

  private List<List<Object>> ask(String sql) throws SQLException {
    try (Connection duckdb = DriverManager.getConnection("jdbc:duckdb:");
        Statement statement = duckdb.createStatement()) {
      statement.execute("SET file_search_path = '" + folder + "'");
      try (ResultSet rows = statement.executeQuery(sql)) {
        List<List<Object>> table = new ArrayList<>();
        while (rows.next()) {
          List<Object> row = new ArrayList<>();
          for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
            row.add(rows.getObject(i));
          }
          table.add(row);
        }
        return table;
      }
    }
  }

  @Test
  void valuesAreReadAsTheyWereAdded() throws Exception {
    Path file = folder.resolve("t.parquet");
    List<String> names = List.of("", "é🐕", "a\u0000b", "\n\"");
    float[] values = {Float.MIN_VALUE, -0f, Float.NaN, Float.NEGATIVE_INFINITY};
    ParquetTable.write(
        file,
        Map.of("made of", "nothing"),
        COLUMNS,
        rows -> {
          for (int i = 0; i < 4; i++) {
            rows.add(i - 2).add(values[i]).add(names.get(i));
          }
        });
    List<List<Object>> table = ask("FROM 't.parquet'");
    for (int i = 0; i < 4; i++) {
      List<Object> row = table.get(i);
      assertEquals(i - 2, row.get(0));
      assertEquals(Float.isFinite(values[i]) ? values[i] : null, row.get(1));
      assertEquals(names.get(i), row.get(2));
    }
    assertEquals(4, table.size());
    assertEquals(
        List.of(List.of("made of", "nothing")),
        ask("SELECT key::VARCHAR, value::VARCHAR FROM parquet_kv_metadata('t.parquet')"));
  }

  @Test
  void anyValueMayBeNullAndListsHaveAnyLength() throws Exception {
    List<Column> columns =
        List.of(Column.int32s("list"), Column.real("real"), Column.int32("id"), Column.text("t"));
    ParquetTable.write(
        folder.resolve("t.parquet"),
        Map.of(),
        columns,
        rows -> {
          rows.add(List.of(3, -1, 3)).add(0.1).add(1).add("a");
          rows.add(List.of()).add(Double.NaN).addNull().addNull();
          rows.addNull().addNull().add(3).add("");
        });
    assertEquals(
        List.of(
            Arrays.asList("[3, -1, 3]", 0.1, 1, "a"),
            Arrays.asList("[]", null, null, null),
            Arrays.asList(null, null, 3, "")),
        ask("SELECT list::VARCHAR, real, id, t FROM 't.parquet'"));
  }

  /** More rows than a group takes, of fewer texts: each is written once a group. */
  @Test
  void aLongTableHasSeveralGroupsAndADictionary() throws Exception {
    Path file = folder.resolve("t.parquet");
    int count = (1 << 20) + 3;
    ParquetTable.write(
        file,
        Map.of(),
        COLUMNS,
        rows -> {
          for (int i = 0; i < count; i++) {
            rows.add(i).add((float) (i >> 3)).add("name " + i % 1000);
          }
        });
    assertEquals(
        List.of(List.of((long) count, (long) count, 1000L, (long) count * (count - 1L) / 2)),
        ask(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT name), sum(id)::BIGINT"
                + " FROM 't.parquet'"));
    assertEquals(
        List.of(List.of((long) (1 << 20)), List.of(3L)),
        ask(
            "SELECT row_group_num_rows FROM parquet_metadata('t.parquet')"
                + " WHERE path_in_schema = 'name' ORDER BY row_group_id"));
    assertEquals(
        List.of(List.of("GZIP", true)),
        ask(
            "SELECT compression, encodings LIKE '%DICTIONARY%' FROM parquet_metadata('t.parquet')"
                + " WHERE path_in_schema = 'name' AND row_group_id = 0"));
    assertTrue(Files.size(file) < 8L * count, Files.size(file) + " bytes");
  }

  @Test
  void aTableMayBeEmpty() throws Exception {
    ParquetTable.write(folder.resolve("t.parquet"), Map.of(), COLUMNS, rows -> {});
    assertEquals(List.of(List.of(0L)), ask("SELECT count(name) FROM 't.parquet'"));
  }

  @Test
  void aTableThatFailsLeavesWhatWasThere() throws IOException {
    Path file = Files.write(folder.resolve("t.parquet"), new byte[] {1, 2, 3});
    List<ParquetTable.Content> wrong =
        List.of(
            rows -> rows.add(1).add(2f), // the last row lacks its name
            rows -> rows.add(1f), // an id is due
            rows -> rows.add("x"),
            rows -> {
              throw new IOException("the source is gone");
            });
    for (ParquetTable.Content content : wrong) {
      assertThrows(
          RuntimeException.class, () -> ParquetTable.write(file, Map.of(), COLUMNS, content));
      assertArrayEquals(new byte[] {1, 2, 3}, Files.readAllBytes(file));
      try (var files = Files.list(folder)) {
        assertEquals(1, files.count());
      }
    }
  }
}
