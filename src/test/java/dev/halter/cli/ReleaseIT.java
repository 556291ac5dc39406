package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The archive that {@code mvn -Prelease package} makes, unpacked in a folder that the user cannot
 * write, on a machine with nothing but bash and coreutils: no variable is set but a PATH that has
 * these alone.
 */
class ReleaseIT {
  /** What the launcher calls. */
  private static final List<String> TOOLS = List.of("bash", "dirname", "readlink", "locale");

  private static final String NOBODY = "65534";

  @TempDir static Path temporary;
  private static Path home;
  private static Map<String, String> unpacked;

  @BeforeAll
  static void unpack() throws Exception {
    Path archive = Path.of(System.getProperty("halter.release"));
    // With a blank in its name, and not where it was built.
    Path folder = Files.createDirectory(temporary.resolve("opt of theirs"));
    run(List.of("tar", "-xzf", archive.toString(), "-C", folder.toString()), Map.of());
    try (Stream<Path> paths = Files.list(folder)) {
      home = paths.toList().getFirst();
    }
    Path bin = Files.createDirectory(temporary.resolve("bin"));
    for (String tool : TOOLS) {
      for (String place : System.getenv("PATH").split(":")) {
        if (Files.isExecutable(Path.of(place, tool)) && !Files.exists(bin.resolve(tool))) {
          Files.copy(Path.of(place, tool), bin.resolve(tool), StandardCopyOption.COPY_ATTRIBUTES);
        }
      }
    }
    Files.setPosixFilePermissions(temporary, PosixFilePermissions.fromString("rwxr-xr-x"));
    unpacked = files();
    run(List.of("chmod", "-R", "a-w", home.toString()), Map.of());
  }

  @AfterAll
  static void nothingWasWritten() throws Exception {
    run(List.of("chmod", "-R", "u+w", home.toString()), Map.of());
    assertEquals(unpacked, files());
  }

  private static Map<String, String> files() throws IOException {
    Map<String, String> files = new TreeMap<>();
    try (Stream<Path> paths = Files.walk(home)) {
      for (Path path : paths.filter(Files::isRegularFile).toList()) {
        files.put(path.toString(), Files.size(path) + " " + Files.getLastModifiedTime(path));
      }
    }
    return files;
  }

  private record Ended(int code, String out, String err) {}

  private static Ended run(List<String> command, Map<String, String> environment)
      throws IOException, InterruptedException {
    Path err = Files.createTempFile(temporary, "err", "");
    ProcessBuilder process = new ProcessBuilder(command).redirectError(err.toFile());
    if (!environment.isEmpty()) {
      process.environment().clear();
      process.environment().putAll(environment);
    }
    Process started = process.start();
    started.getOutputStream().close();
    String out = new String(started.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new Ended(started.waitFor(), out, Files.readString(err));
  }

  /** Root may write everywhere, so it becomes another user. */
  private static String halter(Map<String, String> environment, String... arguments)
      throws Exception {
    List<String> command = new ArrayList<>();
    if (System.getProperty("user.name").equals("root")) {
      command.addAll(
          List.of("setpriv", "--reuid=" + NOBODY, "--regid=" + NOBODY, "--clear-groups"));
    }
    command.add(home.resolve("bin/halter").toString());
    command.addAll(List.of(arguments));
    Map<String, String> all = new TreeMap<>(environment);
    all.put("PATH", temporary.resolve("bin").toString());
    Ended ended = run(command, all);
    assertEquals(0, ended.code, ended.err);
    assertFalse(ended.err.contains("WARNING"), ended.err);
    return ended.out;
  }

  private static JsonNode json(String... arguments) throws Exception {
    return CommandLineRun.parse(halter(Map.of(), arguments));
  }

  @Test
  void helpIsThere() throws Exception {
    assertTrue(halter(Map.of(), "--help").contains("Usage: halter"));
  }

  @Test
  void infoNamesTheModelThatShips() throws Exception {
    JsonNode info = json("info", "--json");
    assertEquals(home.resolve("models/demo").toString(), info.get("model").asText());
    assertTrue(info.get("cpu").asText().startsWith("loads: CPU"), info.toString());
  }

  @Test
  void theDemoSteers() throws Exception {
    JsonNode demo = json("demo", "--json");
    assertFalse(demo.at("/before/text").asText().contains("dog"), demo.toString());
    assertTrue(demo.at("/after/text").asText().contains("dog"), demo.toString());
  }

  /** By a library that no other command loads, in a runtime with few modules. */
  @Test
  void mapsAreExportedAsParquet() throws Exception {
    Path open = Files.createDirectory(temporary.resolve("open"));
    Files.setPosixFilePermissions(open, PosixFilePermissions.fromString("rwxrwxrwx"));
    Path table = open.resolve("up.parquet");
    halter(Map.of(), "map", "--export", table.toString());
    assertEquals("PAR1", new String(Files.readAllBytes(table), 0, 4, StandardCharsets.ISO_8859_1));
  }

  @Test
  void generateFollowsAPlan() throws Exception {
    Path plan = Demo.DOGS.toAbsolutePath();
    String ask = Demo.QUESTION;
    String plain = json("generate", "--json", "--ask", ask).get("text").asText();
    String steered =
        json("generate", "--json", "--ask", ask, "--plan", plan.toString()).get("text").asText();
    assertNotEquals(plain, steered);
    assertTrue(steered.contains("dog"), steered);
  }

  @Test
  void oneDnnLoads() throws Exception {
    assertEquals(
        halter(Map.of(), "generate", "--prompt", "I like the"),
        halter(Map.of(), "generate", "--prompt", "I like the", "--no-batch-invariant"));
  }

  @Test
  void classesComeFromTheCache() throws Exception {
    String loaded = halter(Map.of("JAVA_OPTS", "-Xlog:class+load"), "--version");
    assertTrue(
        loaded.contains(Halter.class.getName() + " source: shared objects file"),
        loaded.lines().filter(line -> line.contains("Halter ")).toList().toString());
  }

  /** Neither a cache of the user's nor a temporary file is needed. */
  @Test
  void nothingIsUnpacked() throws Exception {
    Path empty = Files.createDirectory(temporary.resolve("empty"));
    Files.setPosixFilePermissions(empty, PosixFilePermissions.fromString("rwxrwxrwx"));
    Map<String, String> caches =
        Map.of(
            "XDG_CACHE_HOME",
            empty.toString(),
            "JAVA_OPTS",
            "-XX:-UsePerfData -Djava.io.tmpdir=" + empty);
    halter(caches, "generate", "--prompt", "I like the");
    try (Stream<Path> files = Files.list(empty)) {
      assertEquals(List.of(), files.toList());
    }
  }

  @Test
  void everyJarHasALicence() throws Exception {
    String licences = Files.readString(home.resolve("licenses/THIRD-PARTY.txt"));
    try (Stream<Path> jars = Files.list(home.resolve("lib"))) {
      List<String> names =
          jars.map(jar -> jar.getFileName().toString())
              .filter(name -> name.endsWith(".jar") && !name.startsWith("halter-"))
              .toList();
      assertFalse(names.isEmpty());
      for (String name : names) {
        String[] artifact = name.replaceFirst("\\.jar$", "").split("-(?=[0-9])", 2);
        assertTrue(licences.contains(":" + artifact[0] + ":" + artifact[1]), name);
      }
    }
    for (String file : List.of("LICENSE", "NOTICE", "licenses/jcuda.txt", "runtime/legal")) {
      assertTrue(Files.exists(home.resolve(file)), file);
    }
  }
}
