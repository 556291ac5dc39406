package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code java -jar} with the jar of the build, which finds its natives and its model by itself. */
class JarIT {
  @TempDir Path temporary;

  @Test
  void processesThatUnpackAtOnceAllRun() throws Exception {
    Path cache = temporary.resolve("cache");
    List<Process> processes = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      processes.add(
          new ProcessBuilder(
                  Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                  "-Dhalter.cache=" + cache,
                  "-jar",
                  System.getProperty("halter.jar"),
                  "demo",
                  "--device",
                  "cpu",
                  "--json")
              .redirectError(temporary.resolve("err" + i).toFile())
              .start());
    }
    for (int i = 0; i < processes.size(); i++) {
      String out =
          new String(processes.get(i).getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      String err = Files.readString(temporary.resolve("err" + i));
      assertEquals(0, processes.get(i).waitFor(), err);
      assertEquals("", err);
      JsonNode demo = CommandLineRun.parse(out);
      assertTrue(demo.at("/after/text").asText().contains("dog"), out);
    }
    // Nothing is left of the race: as many of each as the jars hold.
    try (Stream<Path> files = Files.walk(cache)) {
      List<String> names =
          files.filter(Files::isRegularFile).map(f -> f.getFileName().toString()).sorted().toList();
      assertEquals(names.stream().distinct().toList(), names);
      assertTrue(names.containsAll(List.of("libhalter.so", "libtokenizers.so", "config.json")));
      assertEquals(List.of(), names.stream().filter(n -> n.matches(".*\\.\\d+-\\d+")).toList());
    }
  }
}
