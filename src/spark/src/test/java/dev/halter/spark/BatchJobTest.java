package dev.halter.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.jar.JarOutputStream;
import java.util.zip.ZipEntry;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The job of spark-submit, by the command that {@code halter spark-batch} prints and without it.
 */
class BatchJobTest {
  @TempDir Path folder;

  private Path lines(int count) throws IOException {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      lines.add("{\"id\":%d,\"prompt\":\"The\",\"plan\":\"dogs.json\"}".formatted(i));
    }
    lines.add("");
    return Files.write(folder.resolve("in.jsonl"), lines);
  }

  private String[] job(Path in, Path out, String... more) {
    List<String> words =
        new ArrayList<>(
            List.of(
                "--model",
                Local.MODEL.toString(),
                "--in",
                in.toString(),
                "--out",
                out.toString(),
                "--plans",
                Local.MODEL.resolve("plans").toString(),
                "--device",
                "cpu",
                "--threads",
                "1",
                "--context",
                "128",
                "--max-tokens",
                "4"));
    words.addAll(List.of(more));
    return words.toArray(String[]::new);
  }

  private static String run(String... words) {
    PrintStream out = System.out;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    try {
      System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
      assertEquals(0, BatchJob.run(words));
    } finally {
      System.setOut(out);
    }
    return said.toString(StandardCharsets.UTF_8);
  }

  @Test
  void aJobThatIsResumedDoesTheRest() throws Exception {
    SparkSession spark = Local.spark();
    Path out = folder.resolve("out");
    String said = run(job(lines(6), out, "--partitions", "3", "--set", "top_p=0.5"));
    assertTrue(said.startsWith("6 rows: 0 failed; 24 tokens generated;"), said);
    Map<String, List<Object>> first = Local.results(spark.read().parquet(out.toString()));
    assertEquals(6, first.size());
    Path more = lines(9);
    Files.writeString(more, Files.readString(more) + "{\"id\":9,\"tokens\":[999999]}\n");
    said = run(job(more, out, "--resume"));
    assertTrue(said.startsWith("4 rows: 1 failed; 12 tokens generated;"), said);
    Map<String, List<Object>> all = Local.results(spark.read().parquet(out.toString()));
    assertEquals(10, all.size());
    first.forEach((id, row) -> assertEquals(row, all.get(id), id));
    assertEquals(all.get("0").subList(1, 4), all.get("8").subList(1, 4));
    said = run(job(lines(9), out, "--resume"));
    assertTrue(said.startsWith("0 rows"), said);
  }

  @Test
  void whatIsWrongIsSaid() throws Exception {
    Local.spark();
    assertEquals(2, BatchJob.run("--model", "m"));
    assertEquals(2, BatchJob.run(job(lines(1), folder.resolve("o"), "--set", "temprature=1")));
  }

  @Test
  void thePrintedCommandRuns() throws Exception {
    // Beside the class path of the tests a cluster's: the submitting JVM gets the job's jars from
    // it.
    Path jars = Files.createDirectories(folder.resolve("jars/lib"));
    Path own = Files.createFile(jars.resolveSibling("halter-spark-test.jar"));
    try (var empty = new JarOutputStream(Files.newOutputStream(own))) {
      empty.putNextEntry(new ZipEntry("empty"));
    }
    Files.copy(own, jars.resolve("a.jar"));
    Path out = folder.resolve("out");
    List<String> words = new ArrayList<>(List.of("spark-batch", "--master", "local[1]"));
    words.addAll(List.of("--gpus", "0", "--conf", "spark.ui.enabled=false"));
    words.addAll(
        List.of("--conf", "spark.driver.host=127.0.0.1", "--jars", jars.getParent().toString()));
    words.addAll(List.of(job(lines(3), out)));
    words.add("--json");
    Process command =
        Local.process("dev.halter.cli.Halter", words.toArray())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    String json = new String(command.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, command.waitFor(), json);
    List<String> submit = RowJson.parse(json).texts("command");
    assertEquals("spark-submit", submit.getFirst());
    Process spark =
        Local.process(
                "org.apache.spark.deploy.SparkSubmit", submit.subList(1, submit.size()).toArray())
            .redirectErrorStream(true)
            .start();
    String said = new String(spark.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, spark.waitFor(), said);
    assertTrue(said.contains("3 rows: 0 failed; 12 tokens generated; 1 engines"), said);
    List<Row> rows = Local.spark().read().parquet(out.toString()).collectAsList();
    assertEquals(3, rows.size());
    rows.forEach(row -> assertNull(row.getAs("error")));
  }
}
