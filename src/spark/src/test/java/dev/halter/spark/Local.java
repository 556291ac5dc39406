package dev.halter.spark;

import static java.util.stream.Collectors.joining;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.files.JsonObject;
import dev.halter.generation.ResultTable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/** What tests run on and against. */
final class Local {
  /** The model that ships. */
  static final Path MODEL = Path.of(System.getProperty("model"));

  private Local() {}

  /** A plan of the model that ships, in one line. */
  static String plan(String name) {
    try {
      return Files.readString(MODEL.resolve("plans/" + name + ".json")).replace("\n", "");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A session in this process, of two tasks at once; there is one. */
  static SparkSession spark() {
    return builder("local[2]").getOrCreate();
  }

  static SparkSession.Builder builder(String master) {
    return SparkSession.builder()
        .master(master)
        .appName("halter-spark tests")
        .config("spark.ui.enabled", false)
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", 2)
        .config(
            "spark.sql.warehouse.dir", Path.of("target", "warehouse").toAbsolutePath().toString())
        .config("spark.log.level", "ERROR");
  }

  /**
   * A master, a worker on a machine of so many GPUs, and as many executors of one core and one GPU
   * each, in processes of their own.
   *
   * @param folder for the script that tells of the GPUs
   */
  static SparkSession cluster(int executors, Path folder) throws IOException {
    Path home = Path.of(System.getenv("SPARK_HOME"));
    Files.createDirectories(home.resolve("jars")); // they are on the executors' class path
    Files.writeString(home.resolve("RELEASE"), "Spark");
    Path script = folder.resolve("gpus");
    String addresses =
        IntStream.range(0, executors).mapToObj(i -> "\"" + i + "\"").collect(joining(", "));
    Files.writeString(
        script,
        "#!/bin/sh\necho '{\"name\": \"gpu\", \"addresses\": [%s]}'\n".formatted(addresses));
    Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
    // The worker reads them from its process, which is this one.
    System.setProperty("spark.worker.resource.gpu.amount", Integer.toString(executors));
    System.setProperty("spark.worker.resource.gpu.discoveryScript", script.toString());
    return builder("local-cluster[1,%d,%d]".formatted(executors, 1024 * executors))
        .config("spark.executor.cores", 1)
        .config("spark.executor.memory", "1g")
        .config("spark.executor.resource.gpu.amount", 1)
        .config("spark.task.resource.gpu.amount", 1)
        .config("spark.executor.extraClassPath", classPath())
        .config(
            "spark.executor.extraJavaOptions",
            "--enable-native-access=ALL-UNNAMED " + String.join(" ", options()))
        .getOrCreate();
  }

  /** Lines of JSON as a dataset, as {@code spark.read().text(…)} gives them. */
  static Dataset<Row> lines(SparkSession spark, Path file, int partitions) {
    return spark.read().text(file.toString()).repartition(partitions);
  }

  /** This class path, whatever runs the tests. */
  static String classPath() {
    return System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
  }

  /** Runs {@code halter} in a process of its own. */
  static void halter(int status, Object... words) throws IOException, InterruptedException {
    Process process = process("dev.halter.cli.Halter", words).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(status, process.waitFor(), said);
  }

  static ProcessBuilder process(String main, Object... words) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xmx512m", "--enable-native-access=ALL-UNNAMED"));
    command.addAll(options());
    command.addAll(List.of("-cp", classPath(), main));
    Stream.of(words).map(Object::toString).forEach(command::add);
    return new ProcessBuilder(command);
  }

  /** Properties of this process that others of Halter need too. */
  static List<String> options() {
    List<String> options = new ArrayList<>();
    for (String property : List.of("halter.native", "halter.onednn", "halter.cache")) {
      if (System.getProperty(property) != null) {
        options.add("-D" + property + "=" + System.getProperty(property));
      }
    }
    return options;
  }

  /** The lines of {@code halter batch}, by id, as rows of {@code halter table}. */
  static Map<String, List<Object>> results(Path file) throws IOException {
    Map<String, List<Object>> results = new LinkedHashMap<>();
    for (String line : Files.readAllLines(file)) {
      JsonObject json = RowJson.parse(line);
      results.put(String.valueOf(json.value("id")), ResultTable.row(json));
    }
    return results;
  }

  /** Rows of a dataset of results, by id, as those. */
  static Map<String, List<Object>> results(Dataset<Row> rows) {
    Map<String, List<Object>> results = new LinkedHashMap<>();
    for (Row row : rows.collectAsList()) {
      List<Object> cells = new ArrayList<>();
      for (int i = 0; i < ResultTable.COLUMNS.size(); i++) {
        cells.add(row.get(i) instanceof scala.collection.Seq<?> ? row.getList(i) : row.get(i));
      }
      assertEquals(null, results.put(row.getString(0), cells), row.getString(0) + " comes twice");
    }
    return results;
  }
}
