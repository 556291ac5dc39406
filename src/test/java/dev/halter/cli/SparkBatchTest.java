package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The command that {@code halter spark-batch} prints; src/spark runs one. */
class SparkBatchTest {
  @TempDir Path folder;

  private static List<String> words(Object... more) {
    List<Object> all =
        new ArrayList<>(
            List.of("spark-batch", "--model", "/m", "--in", "s3://b/in", "--out", "/o", "--json"));
    all.addAll(List.of(more));
    JsonNode command = halter(all.toArray()).json().get("command");
    List<String> words = new ArrayList<>();
    command.forEach(word -> words.add(word.asText()));
    return words;
  }

  private static boolean has(List<String> words, String option, String value) {
    for (int i = 0; i + 1 < words.size(); i++) {
      if (words.get(i).equals(option) && words.get(i + 1).equals(value)) {
        return true;
      }
    }
    return false;
  }

  @Test
  void aGpuForEachTaskUnlessItIsSaidOtherwise() {
    List<String> words = words();
    assertEquals(List.of("spark-submit", "--class", SparkBatchCommand.JOB), words.subList(0, 3));
    assertTrue(has(words, "--conf", "spark.executor.resource.gpu.amount=1"), words.toString());
    assertTrue(has(words, "--conf", "spark.task.resource.gpu.amount=1"), words.toString());
    assertEquals(
        List.of("spark-internal", "--model", "/m", "--in", "s3://b/in", "--out", "/o"),
        words.subList(words.indexOf("spark-internal"), words.size()),
        "what is the job's comes last, as it was said");
    words =
        words(
            "--gpus",
            4,
            "--tasks-per-gpu",
            3,
            "--executors",
            16,
            "--master",
            "spark://h:7077",
            "--discovery-script",
            "/gpus",
            "--conf",
            "spark.executor.memory=8g");
    assertTrue(has(words, "--conf", "spark.executor.resource.gpu.amount=4"), words.toString());
    assertTrue(has(words, "--conf", "spark.task.resource.gpu.amount=0.3333"), words.toString());
    assertTrue(has(words, "--conf", "spark.executor.instances=16"), words.toString());
    assertTrue(
        has(words, "--conf", "spark.executor.resource.gpu.discoveryScript=/gpus"),
        words.toString());
    assertTrue(has(words, "--master", "spark://h:7077"), words.toString());
    assertTrue(has(words, "--conf", "spark.executor.memory=8g"), words.toString());
    assertTrue(words("--gpus", 0).stream().noneMatch(word -> word.contains("gpu")));
  }

  @Test
  void aShellReadsTheWordsBack() throws Exception {
    Object[] options = {
      "spark-batch",
      "--model",
      "/a model's",
      "--in",
      "i",
      "--out",
      "o",
      "--resume",
      "--plan",
      "{\"interventions\": [\"$x\"]}",
      "--plan",
      "dogs",
      "--set",
      "top_p=0.5"
    };
    String printed = halter(options).out();
    Process shell =
        new ProcessBuilder("sh", "-c", printed.replaceFirst("spark-submit", "printf '%s\\\\n'"))
            .start();
    List<String> read =
        new String(shell.getInputStream().readAllBytes(), StandardCharsets.UTF_8).lines().toList();
    assertEquals(0, shell.waitFor());
    List<String> own = read.subList(read.indexOf("spark-internal") + 1, read.size());
    List<String> said = new ArrayList<>();
    for (Object word : options) {
      said.add(word.toString());
    }
    assertEquals(said.stream().skip(1).sorted().toList(), own.stream().sorted().toList());
    assertTrue(has(own, "--model", "/a model's"), own.toString());
  }

  @Test
  void jarsComeFromAFolder() throws Exception {
    String none =
        halter("spark-batch", "--model", "m", "--in", "i", "--out", "o", "--jars", folder).error(2);
    assertTrue(none.contains("no halter-spark"), none);
    Files.createFile(folder.resolve("halter-spark-1.jar"));
    Files.createDirectory(folder.resolve("lib"));
    Files.createFile(folder.resolve("lib/b.jar"));
    Files.createFile(folder.resolve("lib/a.jar"));
    List<String> words = words("--jars", folder);
    assertTrue(
        has(words, "--jars", folder.resolve("lib/a.jar") + "," + folder.resolve("lib/b.jar")),
        words.toString());
    assertEquals(
        folder.resolve("halter-spark-1.jar").toString(), words.get(words.indexOf("--model") - 1));
  }

  @Test
  void wrongUseIsRefused() {
    for (Object[] wrong :
        new Object[][] {
          {"--gpus", -1}, {"--tasks-per-gpu", 0}, {"--conf", "x"}, {"--device", "tpu"}
        }) {
      List<Object> all =
          new ArrayList<>(List.of("spark-batch", "--model", "m", "--in", "i", "--out", "o"));
      all.addAll(List.of(wrong));
      String error = halter(all.toArray()).error(2);
      assertTrue(error.contains(wrong[0].toString()), error);
    }
    assertTrue(halter("spark-batch", "--in", "i", "--out", "o").error(2).contains("--model"));
  }

  @Test
  void versionsAreThoseOfTheBuild() throws Exception {
    String root = Files.readString(Path.of("pom.xml"));
    String spark = Files.readString(Path.of("src/spark/pom.xml"));
    assertEquals(SparkBatchCommand.VERSION, first("version", root));
    for (String version :
        List.of("version", "spark.version", "junit.version", "error-prone.version")) {
      assertEquals(first(version, root), first(version, spark), version);
    }
  }

  private static String first(String element, String pom) {
    Matcher found =
        Pattern.compile("<" + element + ">([^<]*)</")
            .matcher(pom.substring(pom.indexOf("<artifactId>")));
    assertTrue(found.find(), element);
    return found.group(1);
  }
}
