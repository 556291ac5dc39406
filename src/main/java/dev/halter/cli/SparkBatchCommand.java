package dev.halter.cli;

import dev.halter.device.Devices;
import dev.halter.files.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "spark-batch",
    description = {
      "Prints the spark-submit command that answers a dataset on a Spark cluster.",
      "Nothing runs here: the command is for a machine that has Spark 4.2 on Java 25.0.3 or later."
    })
final class SparkBatchCommand implements Callable<Integer> {
  /** The class of halter-spark that Spark starts. */
  static final String JOB = "dev.halter.spark.BatchJob";

  /** Of the artifacts, as the build has it. */
  static final String VERSION = "0.1.0-SNAPSHOT";

  private static final String NATIVE_ACCESS = "--enable-native-access=ALL-UNNAMED";

  @Spec CommandSpec spec;

  @Mixin SparkModelOptions model;
  @Mixin SparkJobOptions job;

  @Option(names = "--master", paramLabel = "URL", description = "Cluster (default: Spark's own).")
  String master;

  @Option(
      names = "--executors",
      paramLabel = "N",
      defaultValue = "0",
      description = "Executors (default: as the cluster gives).")
  int executors;

  @Option(
      names = "--gpus",
      paramLabel = "N",
      defaultValue = "1",
      description = "GPUs of an executor; 0 = it runs on its CPU (default: ${DEFAULT-VALUE}).")
  int gpus;

  @Option(
      names = "--tasks-per-gpu",
      paramLabel = "N",
      defaultValue = "1",
      description = "Tasks that share an engine at once (default: ${DEFAULT-VALUE}).")
  int tasksPerGpu;

  @Option(
      names = "--discovery-script",
      paramLabel = "F",
      description = "What prints the GPUs of a node as Spark asks for it; not on Kubernetes.")
  String discovery;

  @Option(
      names = "--jars",
      paramLabel = "DIR",
      description =
          "Folder of halter-spark's jar with lib/ beside it, such as src/spark/target of a checkout"
              + " (default: from Maven).")
  Path jars;

  @Option(
      names = "--conf",
      paramLabel = "K=V",
      description = "Another setting of Spark, such as spark.executor.memory=8g.")
  List<String> more = new ArrayList<>();

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--tasks-per-gpu", tasksPerGpu);
    if (executors < 0 || gpus < 0) {
      throw new WrongUseException("--executors and --gpus cannot be negative");
    }
    if (!Devices.isName(model.device)) {
      throw new WrongUseException("--device " + model.device + ": choose auto, cpu or cuda");
    }
    for (String setting : more) {
      if (!setting.contains("=")) {
        throw new WrongUseException("--conf " + setting + " is not as spark.executor.memory=8g");
      }
    }
    List<List<String>> command = command();
    List<String> words = command.stream().flatMap(List::stream).toList();
    if (output.isJson()) {
      output.print(Json.object("command", words));
    } else {
      System.out.println(
          command.stream()
              .map(
                  line ->
                      line.stream().map(SparkBatchCommand::quoted).collect(Collectors.joining(" ")))
              .collect(Collectors.joining(" \\\n    ")));
    }
    return 0;
  }

  /** The words of the command, line by line. */
  private List<List<String>> command() {
    List<List<String>> lines = new ArrayList<>();
    lines.add(List.of("spark-submit", "--class", JOB));
    if (master != null) {
      lines.add(List.of("--master", master));
    }
    if (executors > 0) {
      conf(lines, "spark.executor.instances=" + executors);
    }
    if (gpus > 0) {
      conf(lines, "spark.executor.resource.gpu.amount=" + gpus);
      conf(lines, "spark.task.resource.gpu.amount=" + taskAmount());
      if (discovery != null) {
        conf(lines, "spark.executor.resource.gpu.discoveryScript=" + discovery);
      }
    }
    // A second copy of a task would take a GPU to write what is written anyway.
    conf(lines, "spark.speculation=false");
    conf(lines, "spark.executor.extraJavaOptions=" + NATIVE_ACCESS);
    conf(lines, "spark.driver.extraJavaOptions=" + NATIVE_ACCESS);
    more.forEach(setting -> conf(lines, setting));
    lines.addAll(jars == null ? packages() : jars());
    spec.commandLine().getParseResult().matchedOptions().stream()
        .distinct() // one that comes twice is there twice, each time with both values
        .filter(SparkBatchCommand::isOfJob)
        .forEach(
            option ->
                option.originalStringValues().forEach(value -> lines.add(words(option, value))));
    return lines;
  }

  private static void conf(List<List<String>> lines, String setting) {
    lines.add(List.of("--conf", setting));
  }

  /** 1/N so that N tasks fit one address, cut so that Spark does not round it to fewer. */
  private String taskAmount() {
    return tasksPerGpu == 1 ? "1" : Double.toString(Math.floor(1e4 / tasksPerGpu) / 1e4);
  }

  private static boolean isOfJob(OptionSpec option) {
    return Halter.isOf(SparkModelOptions.class, option)
        || Halter.isOf(SparkJobOptions.class, option);
  }

  private static List<String> words(OptionSpec option, String value) {
    String name = option.longestName();
    return option.arity().max() == 0 ? List.of(name) : List.of(name, value);
  }

  /** Spark's name for a job that is in none of the files it is given, but in a package. */
  private static List<List<String>> packages() {
    return List.of(
        List.of("--packages", "dev.halter:halter-spark:" + VERSION), List.of("spark-internal"));
  }

  private List<List<String>> jars() {
    Path own;
    List<Path> others;
    try (Stream<Path> files = Files.list(jars);
        Stream<Path> beside = Files.list(jars.resolve("lib"))) {
      own =
          files
              .filter(file -> file.getFileName().toString().matches("halter-spark-[^/]*\\.jar"))
              .findFirst()
              .orElse(null);
      others = beside.filter(file -> file.toString().endsWith(".jar")).sorted().toList();
    } catch (IOException e) {
      own = null;
      others = List.of();
    }
    if (own == null || others.isEmpty()) {
      throw new WrongUseException(
          "--jars "
              + jars
              + " has no halter-spark-….jar with lib/ beside it: mvn -f src/spark/pom.xml package"
              + " makes src/spark/target");
    }
    return List.of(
        List.of("--jars", others.stream().map(Path::toString).collect(Collectors.joining(","))),
        List.of(own.toString()));
  }

  /** A word as a shell reads it back. */
  private static String quoted(String word) {
    return word.matches("[\\w@%+=:,./-]+") ? word : "'" + word.replace("'", "'\\''") + "'";
  }
}
