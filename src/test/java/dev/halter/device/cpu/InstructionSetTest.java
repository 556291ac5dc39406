package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** HALTER_MAX_ISA, each time in a process of its own: it is read once. */
class InstructionSetTest {
  @Test
  void withoutACapItIsTheBestOfThisCpu() throws Exception {
    assertUses(best(), info(""));
  }

  @Test
  void capHolds() throws Exception {
    String cap = best().equals("avx2") ? "" : ", capped by HALTER_MAX_ISA: this CPU has " + best();
    assertUses("avx2" + cap, info("avx2"));
  }

  @Test
  void capAboveTheBestIsNone() throws Exception {
    assertUses(best(), info("avx512_bf16"));
  }

  @Test
  void unknownNameIsRefused() throws Exception {
    assertEquals(
        List.of(
            "halter: device 'cpu' cannot be used: HALTER_MAX_ISA is 'fast', which is none of avx2,"
                + " avx512, avx512_bf16"),
        info("fast"));
  }

  private static void assertUses(String expected, List<String> info) {
    String isa = expected.split(",", 2)[0];
    assertTrue(info.contains("         instruction set " + expected), info.toString());
    assertTrue(info.stream().anyMatch(line -> line.contains(" threads, " + isa + ")")), isa);
  }

  /** What the system says that the CPU has. */
  private static String best() throws IOException {
    List<String> flags =
        Files.readAllLines(Path.of("/proc/cpuinfo")).stream()
            .filter(line -> line.startsWith("flags"))
            .map(line -> Arrays.asList(line.split(" ")))
            .findFirst()
            .orElseThrow();
    boolean v4 =
        flags.containsAll(List.of("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"));
    return !v4 ? "avx2" : flags.contains("avx512_bf16") ? "avx512_bf16" : "avx512";
  }

  /** The lines of {@code halter info}. */
  private static List<String> info(String cap) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-cp", System.getProperty("java.class.path")));
    command.add("--enable-native-access=ALL-UNNAMED");
    for (String property : List.of("halter.native", "halter.models")) {
      command.add("-D" + property + "=" + System.getProperty(property));
    }
    command.addAll(List.of("dev.halter.cli.Halter", "info", "--device", "cpu", "--threads", "2"));
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().put("HALTER_MAX_ISA", cap);
    Process process = builder.start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(cap.equals("fast") ? 1 : 0, process.waitFor(), output);
    return output.lines().toList();
  }
}
