package dev.halter.snippets;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.cli.CommandLineRun;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.cli} and its rooms show. */
class CommandSnippetsTest {
  @Test
  void generate() {
    // @start region="generate"
    CommandLineRun run = halter("generate", "--ask", "What is your favourite animal?", "--json");
    // @end
    assertEquals(0, run.code(), run.err());
    assertTrue(run.out().contains("finish_reason"));
  }

  @Test
  void neurons(@TempDir Path folder) {
    Path map = folder.resolve("map.safetensors");
    // @start region="neurons"
    halter("map", "--out", map);
    CommandLineRun run = halter("neurons", "--map", map, "--token", "dog", "--top", 3);
    // @end
    assertEquals(0, run.code(), run.err());
    assertTrue(run.out().contains("dog"), run.out());
  }

  @Test
  void heads(@TempDir Path folder) throws Exception {
    Path pairs = folder.resolve("pairs.jsonl");
    Path effects = folder.resolve("effects.json");
    Files.writeString(
        pairs,
        "{\"reference\": \"3 plus 4 is\", \"counterfactual\": \"3 or 4 is\", \"answer\": \"7\"}\n");
    // @start region="heads"
    CommandLineRun run = halter("heads", "patch", "--pairs", pairs, "--out", effects);
    // @end
    assertEquals(0, run.code(), run.err());
    assertTrue(Files.readString(effects).contains("delta_logit"));
  }

  @Test
  void concepts(@TempDir Path folder) {
    Path stimuli = Path.of("src/main/models/demo/concepts/stimuli.jsonl");
    Path dictionary = folder.resolve("concepts.safetensors");
    // @start region="concepts"
    halter("concepts", "build", "--stimuli", stimuli, "--layers", "2..3", "--out", dictionary);
    CommandLineRun run = halter("concepts", "info", dictionary);
    // @end
    assertEquals(0, run.code(), run.err());
  }
}
