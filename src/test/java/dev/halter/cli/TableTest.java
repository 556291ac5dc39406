package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.parse;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter table}: what DuckDB reads is what the file holds. */
class TableTest {
  private final Path model = golden("llama3").resolve("model"); // 3 layers of 6 heads

  @TempDir Path folder;

  private List<List<String>> table(Path file, String columns) throws SQLException {
    Path out = folder.resolve("t.parquet");
    CommandLineRun run = halter("table", file, "--out", out);
    assertEquals(0, run.code(), run.err());
    try (Connection duckdb = DriverManager.getConnection("jdbc:duckdb:");
        Statement statement = duckdb.createStatement();
        ResultSet found = statement.executeQuery("SELECT " + columns + " FROM '" + out + "'")) {
      List<List<String>> rows = new ArrayList<>();
      while (found.next()) {
        List<String> row = new ArrayList<>();
        for (int i = 1; i <= found.getMetaData().getColumnCount(); i++) {
          row.add(found.getString(i));
        }
        rows.add(row);
      }
      assertTrue(run.out().startsWith(rows.size() + " rows: "), run.out());
      return rows;
    }
  }

  @Test
  void resultsAreRowsAndSoAreFailures() throws Exception {
    Path in = folder.resolve("in.jsonl");
    Files.write(
        in,
        List.of(
            "{\"id\":\"a\",\"tokens\":[5,9],\"max_tokens\":3,\"plan\":{\"interventions\":[{\"op\":\"head_scale\","
                + "\"site\":\"blocks.1.attn.hook_z\",\"heads\":[2],\"scale\":0}]}}",
            "{\"id\":2,\"tokens\":[5000]}"));
    Path results = folder.resolve("results.jsonl");
    halter("batch", "--model", model, "--in", in, "--out", results, "--logprobs", 1);
    List<List<String>> rows =
        table(
            results,
            "id, tokens::VARCHAR, prompt_tokens, finish_reason,"
                + " steering_report->>'$.interventions[0].op', logprobs->>'$[2].token', error");
    assertEquals(2, rows.size());
    for (String line : Files.readAllLines(results)) {
      JsonNode json = parse(line);
      List<String> row =
          rows.stream()
              .filter(each -> each.getFirst().equals(json.get("id").asText()))
              .findFirst()
              .orElseThrow();
      if (json.has("error")) {
        assertEquals(json.get("error").asText(), row.get(6));
        row.subList(1, 6).forEach(cell -> assertEquals(null, cell));
      } else {
        assertEquals(json.get("tokens").toString(), row.get(1).replace(" ", ""));
        assertEquals(
            List.of("2", "length", "head_scale", json.get("tokens").get(2).asText()),
            row.subList(2, 6));
        assertEquals(null, row.get(6));
      }
    }
  }

  @Test
  void effectsAreARowForEachHeadAndMlp() throws Exception {
    Path pairs = folder.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"reference_tokens": [5, 9, 20], "counterfactual_tokens": [5, 11, 20], "answer_token": 30}
        """);
    Path effects = folder.resolve("effects.json");
    halter("heads", "patch", "--model", model, "--pairs", pairs, "--out", effects);
    JsonNode json = parse(Files.readString(effects));
    List<List<String>> rows =
        table(effects, "sender, layer, head, relative, delta_logit, probability");
    assertEquals(3 * (6 + 1), rows.size());
    assertRow(
        rows.get(7 + 4),
        "1.4",
        "1",
        "4",
        json.get("heads").get(1).get(4),
        json.get("delta_logit").get(1).get(4));
    assertRow(
        rows.get(2 * 7 + 6),
        "mlp 2",
        "2",
        null,
        json.get("mlps").get(2),
        json.get("mlp_delta_logit").get(2));
  }

  private static void assertRow(
      List<String> row,
      String sender,
      String layer,
      String head,
      JsonNode relative,
      JsonNode delta) {
    assertEquals(sender, row.get(0));
    assertEquals(layer, row.get(1));
    assertEquals(head, row.get(2));
    assertEquals(relative.asDouble(), Double.parseDouble(row.get(3)));
    assertEquals(delta.asDouble(), Double.parseDouble(row.get(4)));
    assertEquals(null, row.get(5), "probability was not measured");
  }

  @Test
  void whatIsNeitherIsRefused() {
    Path out = folder.resolve("t.parquet");
    String tensors = halter("table", model.resolve("model.safetensors"), "--out", out).error(1);
    assertTrue(tensors.contains("map --export"), tensors);
    String config = halter("table", model.resolve("config.json"), "--out", out).error(1);
    assertTrue(config.contains("heads"), config);
    assertTrue(Files.notExists(out));
  }
}
