package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.device.Devices;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProfileOptionTest {
  private static final Object[] GENERATE = {
    "generate", "--prompt", "A dog", "--max-tokens", 4, "--device", "cpu", "--json"
  };

  private static CommandLineRun profiled(Object... arguments) {
    Object[] all = Arrays.copyOf(arguments, arguments.length + 1);
    all[arguments.length] = "--profile";
    return halter(all);
  }

  /** The row of the table, split at blanks. */
  private static List<String> row(CommandLineRun run, String name) {
    String line =
        run.err().lines().filter(row -> row.endsWith("  " + name)).findFirst().orElseThrow();
    return List.of(line.trim().split("\\s+"));
  }

  @AfterEach
  void noRunLeavesThePropertySet() {
    assertNull(System.getProperty(Devices.PROFILE));
  }

  @Test
  void theTableGoesToStandardErrorBesideTheSameJson() {
    CommandLineRun plain = halter(GENERATE);
    CommandLineRun run = profiled(GENERATE);
    assertEquals(plain.json(), run.json());
    assertFalse(plain.err().contains("profile of"), plain.err());
    assertTrue(run.err().startsWith("profile of CPU ("), run.err());
    assertEquals("4", row(run, "sample").get(2));
    int launches = 4 * Demo.CONFIG.nLayers(); // for a prompt and 3 steps
    assertEquals(Integer.toString(launches), row(run, "rope_append_f32").get(2));
    assertEquals("100.0%", row(run, "total").get(1));
  }

  @Test
  void whatLaunchesDoNotTellIsADash(@TempDir Path folder) throws IOException {
    Path plan = folder.resolve("plan.json");
    Files.writeString(
        plan,
        """
        {"interventions": [
          {"op": "neuron_clamp", "site": "blocks.1.mlp.hook_post", "neurons": [3], "value": 4}]}
        """);
    Object[] steered = Arrays.copyOf(GENERATE, GENERATE.length + 2);
    steered[GENERATE.length] = "--plan";
    steered[GENERATE.length + 1] = plan;
    CommandLineRun run = profiled(steered);
    assertEquals(List.of("-", "-", "-"), row(run, "gated_mlp_edit_f32").subList(3, 6));
  }

  @Test
  void everyCommandTakesIt(@TempDir Path folder) {
    Path file = folder.resolve("map.safetensors");
    CommandLineRun map = profiled("map", "--out", file, "--device", "cpu", "--json");
    map.json();
    assertEquals("4", row(map, "neuron_vectors_bf16_bf16").get(2)); // a layer each
    CommandLineRun agree = profiled("agree", file, file, "--json");
    assertEquals(1, agree.json().get("agreement").asDouble());
    assertEquals("", agree.err()); // nothing runs on a device
  }
}
