package dev.halter.cli.heads;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** From pairs to pictures on the command line, with the model that ships. */
class HeadsCommandsTest {
  private static final Path TASKS = Path.of("src/main/models/demo/tasks");

  @TempDir Path folder;

  private Path pairs(int count) {
    Path pairs = folder.resolve("pairs.jsonl");
    JsonNode made =
        halter(
                "heads",
                "pairs",
                "arithmetic",
                "--templates",
                TASKS.resolve("arithmetic.json"),
                "--out",
                pairs,
                "--limit",
                count,
                "--correct-only",
                "--json")
            .json();
    assertEquals(
        List.of("pairs", "tried", "several_tokens", "other_length", "wrong", "out"), keys(made));
    assertEquals(count, made.get("pairs").asInt());
    return pairs;
  }

  @Test
  void pairsAreTakenByEveryOtherCommand() throws IOException {
    Path pairs = pairs(24);
    assertEquals(24, Files.readAllLines(pairs).size());
    Path effects = folder.resolve("effects.json");
    assertEquals(0, halter("heads", "patch", "--pairs", pairs, "--out", effects).code());

    Path also = folder.resolve("also.jsonl");
    Files.writeString(
        also,
        """
        {"kind": "sound", "messages": [{"role": "user", "content": "What sound does the dog make?"}], \
        "match": "contains", "answers": ["barks"]}
        {"kind": "never", "prompt": "7 + 5 =", "match": "exact", "answers": ["x"]}
        """);
    JsonNode knockout =
        halter(
                "heads",
                "knockout",
                "--pairs",
                pairs,
                "--effects",
                effects,
                "--top",
                3,
                "--also",
                also,
                "--draws",
                2,
                "--seed",
                1,
                "--json")
            .json();
    assertEquals(
        List.of(
            "heads",
            "kv_heads",
            "query_heads_per_kv_head",
            "mode",
            "at",
            "mean_over",
            "draws",
            "seed",
            "tasks"),
        keys(knockout));
    int perGroup = Demo.CONFIG.nHeads() / Demo.CONFIG.nKvHeads();
    assertEquals(perGroup, knockout.get("query_heads_per_kv_head").asInt());
    for (int i = 0; i < 3; i++) {
      String head = knockout.get("heads").get(i).asText();
      int group = Integer.parseInt(head.substring(head.indexOf('.') + 1)) / perGroup;
      assertEquals(group, knockout.get("kv_heads").get(i).asInt());
    }
    JsonNode sums = knockout.get("tasks").get(0);
    assertEquals("pairs", sums.get("task").asText());
    assertEquals(1, sums.get("intact").asDouble());
    assertTrue(sums.get("knocked_out").asDouble() < sums.get("random_mean").asDouble() - 0.3);
    assertEquals(2, sums.get("random").size());
    assertEquals("sound", knockout.get("tasks").get(1).get("task").asText());
    assertEquals(1, knockout.get("tasks").get(1).get("intact").asDouble());
    assertEquals(0, knockout.get("tasks").get(2).get("intact").asDouble());

    Path page = folder.resolve("patterns.html");
    JsonNode rows =
        halter(
                "heads",
                "attention",
                "--pairs",
                pairs,
                "--heads",
                "0.4,2.1",
                "--html",
                page,
                "--pair",
                2,
                "--json")
            .json();
    assertEquals(
        List.of("head", "kv_head", "part", "pairs", "mean", "std", "uniform"), keys(rows.get(0)));
    double sum = 0;
    for (JsonNode row : rows) {
      sum += row.get("head").asText().equals("0.4") ? row.get("mean").asDouble() : 0;
    }
    assertEquals(1, sum, 1e-4, "a head's parts are all that it looks at");
    assertTrue(Files.readString(page).contains("Head 2.1"));
    Path patterns = folder.resolve("patterns.svg");
    assertEquals(
        0,
        halter("heads", "attention", "--pairs", pairs, "--heads", "0.4", "--out", patterns).code());
    assertTrue(Files.readString(patterns).contains("<title>query "), "as SVG");

    for (String ending : List.of("svg", "png", "html")) {
      Path picture = folder.resolve("effects." + ending);
      assertEquals(0, halter("heads", "picture", effects, "--out", picture).code());
      assertTrue(Files.size(picture) > 1000);
    }
  }

  @Test
  void benchmarkFilesBecomePairs() {
    Path out = folder.resolve("safe.jsonl");
    JsonNode safe =
        halter(
                "heads",
                "pairs",
                "xstest",
                "--in",
                TASKS.resolve("xstest.csv"),
                "--out",
                out,
                "--json")
            .json();
    assertEquals(
        List.of("pairs", "prompts", "without_counterfactual", "answered_alike", "out"), keys(safe));
    assertEquals(27, safe.get("prompts").asInt());
    String again =
        halter("heads", "pairs", "xstest", "--in", TASKS.resolve("xstest.csv"), "--out", out)
            .error(1);
    assertTrue(again.contains(out + ": exists already"), again);
    String error =
        halter("heads", "pairs", "trustllm", "--in", TASKS.resolve("preference.json"), "--out", out)
            .error(2);
    assertTrue(error.contains("--counterfactual-system"), error);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "heads",
        "heads pairs",
        "heads pairs arithmetic",
        "heads pairs arithmetic --out F --operands x",
        "heads pairs arithmetic --out F --limit 0",
        "heads pairs xstest --in F --out F --within 0",
        "heads knockout --pairs F",
        "heads knockout --pairs F --heads 0.0 --top 1",
        "heads knockout --pairs F --heads 0.0 --mode half",
        "heads knockout --pairs F --heads 0.0 --at start",
        "heads knockout --pairs F --heads 0.0 --mode resample --at all",
        "heads knockout --pairs F --heads 0.0 --draws -1",
        "heads picture F --out F.jpg",
        "heads attention --pairs F --heads 0.0 --out F.jpg",
        "heads picture F --out F.svg --limit 0",
        "heads picture F --out F.svg --limit NaN",
        "heads picture F --out F.svg --value x"
      })
  void wrongUseIsOneLine(String arguments) {
    halter((Object[]) arguments.split(" ")).error(2);
  }

  @Test
  void headsThatAreNotThereAreNamed() {
    Path pairs = pairs(2);
    int layers = Demo.CONFIG.nLayers();
    for (String heads : List.of(layers + ".0", "0." + Demo.CONFIG.nHeads(), "0", "a.b")) {
      String error = halter("heads", "knockout", "--pairs", pairs, "--heads", heads).error(1);
      assertTrue(error.contains("layers are 0 to " + (layers - 1)), error);
    }
    halter("heads", "knockout", "--pairs", pairs, "--heads", "0.1,0.1").error(2);
    halter("heads", "attention", "--pairs", pairs, "--heads", "0.1", "--pair", 3).error(2);
    halter("heads", "attention", "--pairs", pairs, "--top", 2).error(2);
  }
}
