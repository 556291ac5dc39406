package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.neurons.NeuronMap.Sign;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MapExportTest {
  /** Tokens as real vocabularies have them. */
  private static final List<String> PIECES =
      List.of(
          " dog", ",", "\"", "\r\n", "a,\"b\"", "</script>", "é", "\u0000", "🐕", "", " ", "\\");

  private static final NeuronMap MAP = MadeMap.random(Sign.BOTH, 2, 3, PIECES.size(), 4, 11);

  @TempDir Path folder;

  @Test
  void jsonLinesHoldEveryKeptToken() throws IOException {
    Path file = folder.resolve("map.jsonl");
    MapExport.of(file).write(MAP, PIECES::get, file);
    List<String> lines = Files.readAllLines(file);
    assertEquals(2 * 3 * 2 * 4, lines.size());
    for (int place = 0; place < lines.size(); place++) {
      JsonNode row = new ObjectMapper().readTree(lines.get(place));
      Map<String, String> expected = row(place);
      List<String> keys = new ArrayList<>();
      row.fieldNames().forEachRemaining(keys::add);
      assertEquals(List.copyOf(expected.keySet()), keys);
      expected.forEach((key, value) -> assertEquals(value, row.get(key).asText(), key));
      assertTrue(row.get("layer").isInt() && row.get("logit").isNumber());
    }
  }

  @Test
  void csvReadByTheRulesHoldsTheSame() throws IOException {
    Path file = folder.resolve("map.csv");
    MapExport.of(file).write(MAP, PIECES::get, file);
    List<List<String>> table = parse(Files.readString(file));
    assertEquals(1 + 2 * 3 * 2 * 4, table.size());
    for (int place = 0; place < table.size() - 1; place++) {
      Map<String, String> expected = row(place);
      assertEquals(List.copyOf(expected.keySet()), table.getFirst());
      assertEquals(List.copyOf(expected.values()), table.get(place + 1));
    }
  }

  /** Read by DuckDB, which shares nothing with what wrote it. */
  @Test
  void parquetHoldsTheSameWithItsTypes() throws Exception {
    Path file = folder.resolve("map.parquet");
    MapExport.of(file).write(MAP, PIECES::get, file);
    try (Connection duckdb = DriverManager.getConnection("jdbc:duckdb:");
        Statement statement = duckdb.createStatement()) {
      try (ResultSet rows = statement.executeQuery("FROM '" + file + "'")) {
        for (int place = 0; place < 2 * 3 * 2 * 4; place++) {
          assertTrue(rows.next());
          Map<String, String> found = new LinkedHashMap<>();
          for (int column = 1; column <= rows.getMetaData().getColumnCount(); column++) {
            found.put(rows.getMetaData().getColumnName(column), rows.getString(column));
          }
          assertEquals(row(place), found);
        }
        assertFalse(rows.next());
      }
      try (ResultSet columns = statement.executeQuery("DESCRIBE FROM '" + file + "'")) {
        List<String> types = new ArrayList<>();
        while (columns.next()) {
          types.add(columns.getString("column_name") + " " + columns.getString("column_type"));
        }
        assertEquals(
            List.of(
                "layer INTEGER",
                "neuron INTEGER",
                "proj VARCHAR",
                "sign INTEGER",
                "rank INTEGER",
                "token_id INTEGER",
                "token VARCHAR",
                "logit FLOAT",
                "probability FLOAT",
                "log_z FLOAT",
                "weight_norm FLOAT",
                "decode VARCHAR"),
            types);
      }
      try (ResultSet facts =
          statement.executeQuery(
              "SELECT value::VARCHAR FROM parquet_kv_metadata('%s') WHERE key = 'fingerprint'"
                  .formatted(file))) {
        assertTrue(facts.next());
        assertEquals(MAP.settings().fingerprint(), facts.getString(1));
      }
    }
  }

  private static Map<String, String> row(int place) {
    int row = place / 4;
    int neuron = row / 2;
    Map<String, String> expected = new LinkedHashMap<>();
    expected.put("layer", Integer.toString(neuron / 3));
    expected.put("neuron", Integer.toString(neuron % 3));
    expected.put("proj", "up");
    expected.put("sign", row % 2 == 0 ? "1" : "-1");
    expected.put("rank", Integer.toString(place % 4));
    expected.put("token_id", Integer.toString(MAP.tokenIds()[place]));
    expected.put("token", PIECES.get(MAP.tokenIds()[place]));
    expected.put("logit", Float.toString(MAP.logits()[place]));
    expected.put(
        "probability", Float.toString((float) Math.exp(MAP.logits()[place] - MAP.logZ()[row])));
    expected.put("log_z", Float.toString(MAP.logZ()[row]));
    expected.put("weight_norm", Float.toString(MAP.weightNorm()[neuron]));
    expected.put("decode", "raw");
    return expected;
  }

  /** RFC 4180: fields between commas, lines between CR LF, both free inside of quotes. */
  private static List<List<String>> parse(String text) {
    List<List<String>> table = new ArrayList<>();
    List<String> row = new ArrayList<>();
    StringBuilder field = new StringBuilder();
    Iterator<Integer> in = text.chars().iterator();
    boolean quoted = false;
    while (in.hasNext()) {
      char c = (char) in.next().intValue();
      if (c == '"') {
        if (!quoted && !field.isEmpty()) {
          field.append(c); // the second of a pair
        }
        quoted = !quoted;
        if (!quoted) {
          field.append('\uffff'); // the end, unless a quote follows
        }
      } else if (!quoted && (c == ',' || c == '\n')) {
        row.add(field.toString().replace("\uffff\"", "\"").replace("\uffff", ""));
        field.setLength(0);
        if (c == '\n') {
          table.add(row);
          row = new ArrayList<>();
        }
      } else if (quoted || c != '\r') {
        field.append(c);
      }
    }
    assertFalse(quoted);
    assertTrue(row.isEmpty() && field.isEmpty(), "the last line has its end");
    return table;
  }

  @Test
  void anotherEndingIsRefused() {
    for (String name : List.of("map.xlsx", "csv", "map.jsonl.gz")) {
      var error =
          assertThrows(IllegalArgumentException.class, () -> MapExport.of(folder.resolve(name)));
      assertTrue(error.getMessage().contains(".parquet, .jsonl or .csv"), error.getMessage());
    }
  }
}
