package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;

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
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Every question in SQL of doc/neurons.md gets the answer that stands below it, from DuckDB. With
 * {@code -Dhalter.renew=true} ({@code tools/pages}) the page receives the answers instead.
 */
class MapInSqlTest {
  private static final Path PAGE = Path.of("src/main/doc/neurons.md");
  private static final Pattern QUESTION =
      Pattern.compile("```sql\\n(.*?)```\\n\\n((?:\\|[^\\n]*\\n)+)", Pattern.DOTALL);

  @TempDir Path folder;

  @Test
  void theQuestionsOfTheDocumentsHaveTheAnswersThatStandThere() throws Exception {
    CommandLineRun map =
        halter("map", "--decode", "norm", "--export", folder.resolve("up.parquet"));
    assertEquals(0, map.code(), map.err());
    String document = Files.readString(PAGE);
    String renewed = document;
    List<MatchResult> questions = QUESTION.matcher(document).results().toList();
    assertEquals(3, questions.size());
    try (Connection duckdb = DriverManager.getConnection("jdbc:duckdb:");
        Statement statement = duckdb.createStatement()) {
      statement.execute("SET file_search_path = '" + folder + "'");
      for (MatchResult question : questions) {
        List<List<String>> answer = answer(statement, question.group(1));
        if (Boolean.getBoolean("halter.renew")) {
          renewed = renewed.replace(question.group(2), markdown(answer, question.group(2)));
        } else {
          assertEquals(table(question.group(2)), answer);
        }
      }
    }
    if (!renewed.equals(document)) {
      Files.writeString(PAGE, renewed);
    }
  }

  /** An answer as a table whose columns are aligned as those of another one. */
  private static String markdown(List<List<String>> answer, String other) {
    List<String> lines = new ArrayList<>();
    answer.forEach(row -> lines.add("| " + String.join(" | ", row) + " |\n"));
    lines.add(1, other.lines().toList().get(1) + "\n");
    return String.join("", lines);
  }

  /** The cells of a table in Markdown, the line below its head left out. */
  private static List<List<String>> table(String markdown) {
    List<List<String>> rows = new ArrayList<>();
    for (String line : markdown.lines().toList()) {
      rows.add(Arrays.stream(line.split("\\|")).skip(1).map(String::strip).toList());
    }
    rows.remove(1);
    return rows;
  }

  private static List<List<String>> answer(Statement statement, String sql) throws SQLException {
    try (ResultSet found = statement.executeQuery(sql)) {
      int columns = found.getMetaData().getColumnCount();
      List<String> names = new ArrayList<>();
      for (int column = 1; column <= columns; column++) {
        names.add(found.getMetaData().getColumnName(column));
      }
      List<List<String>> rows = new ArrayList<>(List.of(names));
      while (found.next()) {
        List<String> row = new ArrayList<>();
        for (int column = 1; column <= columns; column++) {
          row.add(found.getString(column));
        }
        rows.add(row);
      }
      return rows;
    }
  }
}
