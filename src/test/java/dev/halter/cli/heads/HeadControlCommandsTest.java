package dev.halter.cli.heads;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.halter.cli.CommandLineRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** heads fit and combine, from prompts to steered answers. */
class HeadControlCommandsTest {
  private static final Path MODEL = golden("llama3").resolve("model"); // 3 layers of 6 heads

  private static final Path DEMO_SUITE = Path.of("src/main/models/demo/tasks/controls.json");

  @TempDir Path folder;

  private Path prompts(String name, int firstToken) throws IOException {
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < 5; i++) {
      lines.append(
          "{\"id\": %d, \"tokens\": [%d, %d, %d]}\n".formatted(i, firstToken, 20 + i, 30 + 3 * i));
    }
    return Files.writeString(folder.resolve(name), lines);
  }

  private JsonNode fit(String out, Object... more) {
    Object[] arguments = {
      "heads",
      "fit",
      "--model",
      MODEL,
      "--positive",
      folder.resolve("p.jsonl"),
      "--negative",
      folder.resolve("n.jsonl"),
      "--out",
      folder.resolve(out),
      "--json"
    };
    Object[] all = Arrays.copyOf(arguments, arguments.length + more.length);
    System.arraycopy(more, 0, all, arguments.length, more.length);
    return halter(all).json();
  }

  private String effects(double of14) {
    String row = "[0, 0, 0, 0, %s, 0]".formatted(of14);
    String matrix = "[[0, 0, 0, 0, 0, 0], " + row + ", [0, 0, 0, 0, 0, 0]]";
    return ("{\"variant\": \"recompute\", \"pairs\": 1, \"heads\": %s, \"delta_logit\": %s,"
            + " \"mlps\": [0, 0, 0], \"mlp_delta_logit\": [0, 0, 0], \"reference_logit\": 1}")
        .formatted(matrix, matrix);
  }

  @Test
  void fitsAndCombinesControlsThatSteer() throws IOException {
    prompts("p.jsonl", 5);
    prompts("n.jsonl", 90);
    JsonNode fit = fit("a.safetensors", "--heads", "1.4,0.2", "--shrinkage", "0.5");
    assertEquals(
        List.of(
            "heads",
            "method",
            "shrinkage",
            "positive_prompts",
            "negative_prompts",
            "samples",
            "out"),
        keys(fit));
    assertEquals("transport", fit.get("method").asText());
    assertEquals(10, fit.get("samples").asInt());
    fit = fit("b.safetensors", "--heads", "1.4,2.0", "--method", "mean", "--answer-tokens", "3");
    assertTrue(fit.get("samples").asInt() > 10, fit.toString());

    fit = fit("pairs.safetensors", "--heads", "0.1", "--method", "pairs", "--shrinkage", "0.5");
    assertEquals("pairs", fit.get("method").asText());
    assertEquals(10, fit.get("samples").asInt());

    Path a = Files.writeString(folder.resolve("a.json"), effects(-0.2));
    Path b = Files.writeString(folder.resolve("b.json"), effects(0.3));
    Path plan = folder.resolve("plan.json");
    JsonNode combined =
        halter(
                "heads",
                "combine",
                "--model",
                MODEL,
                "--controls",
                folder.resolve("a.safetensors") + "," + folder.resolve("b.safetensors"),
                "--effects",
                a + "," + b,
                "--out",
                plan,
                "--json")
            .json();
    assertEquals("[\"1.4\",\"0.2\",\"2.0\"]", combined.get("heads").toString());
    assertEquals(0.5, combined.get("overlaps").get(0).get("overlap").asDouble());
    JsonNode contested = combined.get("contested").get(0);
    assertEquals("1.4", contested.get("head").asText());
    assertEquals("[\"b\"]", contested.get("controls").toString());

    Path in =
        Files.writeString(folder.resolve("in.jsonl"), "{\"id\": 1, \"tokens\": [90, 21, 33]}");
    JsonNode plain = batch(in, "plain.jsonl");
    JsonNode steered = batch(in, "steered.jsonl", "--plan", plan);
    assertNotEquals(plain.get("tokens"), steered.get("tokens"));
    JsonNode report = steered.get("steering_report").get("interventions");
    assertEquals(3, report.size());
    // The prompt's last token and the answer's, of which the last is not fed back.
    assertEquals(steered.get("tokens").size(), report.get(0).get("tokens").asInt());
  }

  private JsonNode batch(Path in, String out, Object... plan) throws IOException {
    Object[] arguments = {
      "batch", "--model", MODEL, "--in", in, "--out", folder.resolve(out), "--max-tokens", "8"
    };
    Object[] all = Arrays.copyOf(arguments, arguments.length + plan.length);
    System.arraycopy(plan, 0, all, arguments.length, plan.length);
    CommandLineRun run = halter(all);
    assertEquals(0, run.code(), run.err());
    return CommandLineRun.results(folder.resolve(out)).get("1");
  }

  /** The first so many of each list of the suite that ships. */
  private Path smallSuite(int train, int test, int others, int texts) throws IOException {
    ObjectNode suite = (ObjectNode) CommandLineRun.parse(Files.readString(DEMO_SUITE));
    ArrayNode tasks = suite.putArray("controls");
    for (JsonNode task : CommandLineRun.parse(Files.readString(DEMO_SUITE)).get("controls")) {
      if (!task.get("name").asText().equals("premise")) {
        cut((ArrayNode) task.get("train"), train);
        cut((ArrayNode) task.get("test"), test);
        tasks.add(task);
      }
    }
    cut((ArrayNode) suite.get("other_train"), others);
    cut((ArrayNode) suite.get("other"), others);
    cut((ArrayNode) suite.get("texts"), texts);
    return Files.writeString(folder.resolve("suite.json"), suite.toString());
  }

  private static void cut(ArrayNode list, int size) {
    while (list.size() > size) {
      list.remove(list.size() - 1);
    }
  }

  @Test
  void aCostNeedsQuestionsThatItIsCountedOn() throws IOException {
    Path suite = smallSuite(2, 2, 0, 2);
    Object[] heads = {"heads", "evaluate", "--suite", suite, "--cost", "5"};
    assertTrue(halter(heads).error(2).contains("other_train"));
    Object[] paper = {"evaluate", "paper", "sac", "--suite", suite, "--cost", "5"};
    assertTrue(halter(paper).error(2).contains("other_train"));
  }

  @Test
  void evaluateTunesHeadsOfTheDemoModel() throws IOException {
    List<String> words = List.of("heads", "evaluate", "--suite", smallSuite(6, 5, 6, 2).toString());
    List<String> small =
        List.of(
            "--part",
            "tuning",
            "--sums",
            "12",
            "--tuned",
            "1",
            "--draws",
            "1",
            "--learn",
            "32",
            "--epochs",
            "1",
            "--learning-rate",
            "1e-3");
    List<String> all = Stream.concat(words.stream(), small.stream()).toList();
    JsonNode tuning =
        halter(Stream.concat(all.stream(), Stream.of("--json")).toArray()).json().get("tuning");
    assertEquals(List.of("pairs", "found", "learnt", "measured", "before", "rows"), keys(tuning));
    assertEquals(16, tuning.get("measured").asInt());
    assertEquals(3, tuning.get("rows").size());
    assertEquals(
        List.of(
            "tuned",
            "heads",
            "mlps",
            "parameters",
            "learning_rates",
            "new_sums",
            "known_sums",
            "other",
            "perplexity"),
        keys(tuning.get("rows").get(0)));
    assertEquals(tuning.get("found").get(0), tuning.get("rows").get(0).get("heads").get(0));
  }

  @Test
  void evaluatePutsSumsAndControlsToTheDemoModel() throws IOException {
    CommandLineRun run =
        halter(
            "heads",
            "evaluate",
            "--suite",
            smallSuite(6, 5, 6, 2),
            "--sums",
            "24",
            "--without",
            "3",
            "--at",
            "answer",
            "--top",
            "1",
            "--method",
            "whiten",
            "--strength",
            "1.5",
            "--draws",
            "1",
            "--json");
    JsonNode all = run.json();
    assertTrue(run.err().startsWith("evaluate: "), "says what it does");
    assertEquals(List.of("arithmetic", "controls"), keys(all));
    JsonNode sums = all.get("arithmetic");
    assertEquals(
        List.of("pairs", "measured", "key_heads", "found", "attention", "perplexity", "rows"),
        keys(sums));
    JsonNode row = sums.get("rows").get(0);
    assertEquals(List.of("heads", "tasks", "perplexity", "random_perplexity"), keys(row));
    assertEquals(3, row.get("heads").size());
    JsonNode right = row.get("tasks").get(0);
    assertEquals("sums", right.get("task").asText());
    assertEquals(1, right.get("intact").asDouble());
    assertTrue(right.get("knocked_out").asDouble() < 0.5, right.toString());

    JsonNode controls = all.get("controls");
    assertEquals(
        List.of("chosen", "overlaps", "contested", "apart", "joint", "rows"), keys(controls));
    JsonNode chosen = controls.get("chosen").get(0);
    assertEquals(
        List.of(
            "task",
            "heads",
            "at",
            "method",
            "strength",
            "train_before",
            "train_after",
            "train_cost"),
        keys(chosen));
    assertEquals("preference", chosen.get("task").asText());
    assertEquals(0, chosen.get("train_before").asDouble());
    assertEquals(
        "[\"preference\",\"harmless\"]", controls.get("overlaps").get(0).get("tasks").toString());
    Map<String, JsonNode> rows = new HashMap<>();
    controls.get("rows").forEach(one -> rows.put(one.get("control").asText(), one));
    assertTrue(rows.containsKey(controls.get("joint").asText()));
    for (String name :
        List.of("heads for all", "RepE, mean of directions", "RepE, merged prompts")) {
      assertTrue(rows.containsKey(name), name);
    }
    List<String> apart = new ArrayList<>();
    controls.get("apart").forEach(one -> one.get("heads").forEach(h -> apart.add(h.asText())));
    assertFalse(apart.isEmpty());
    assertEquals(apart.stream().distinct().toList(), apart, "heads of one task each");
    assertTrue(rows.get("heads for all, apart").get("preference").asDouble() > 0.7);
    JsonNode none = rows.get("none");
    assertEquals(List.of("control", "preference", "harmless", "other", "perplexity"), keys(none));
    assertEquals(0, none.get("preference").asDouble());
    assertTrue(rows.get("heads for preference").get("preference").asDouble() > 0.7);
    assertTrue(rows.get("random heads, draw 1").get("preference").asDouble() < 0.3);
  }

  @Test
  void badInputIsOneLine() throws IOException {
    Path p = prompts("p.jsonl", 5);
    Path n = prompts("n.jsonl", 90);
    Path out = folder.resolve("x.safetensors");
    Object[] fit = {
      "heads",
      "fit",
      "--model",
      MODEL,
      "--positive",
      p,
      "--negative",
      n,
      "--out",
      out,
      "--heads",
      "1.4",
      "--shrinkage",
      "0"
    };
    String error = halter(fit).error(1); // 5 samples in 8 dimensions
    assertTrue(error.contains("head 1.4") && error.contains("singular"), error);
    assertTrue(Files.notExists(out));
    fit[13] = "2";
    halter(fit).error(2);
    fit[13] = "0.1";
    fit[11] = "1.6";
    assertTrue(halter(fit).error(1).contains("1.6"));
    fit[11] = "1.4";
    Files.writeString(n, "{\"id\": 7, \"tokens\": [1, 999]}\n");
    error = halter(fit).error(1);
    assertTrue(error.contains("n.jsonl") && error.contains("line 1"), error);
    halter(
            "heads",
            "combine",
            "--model",
            MODEL,
            "--controls",
            out,
            "--effects",
            p,
            "--out",
            "y.json")
        .error(2);
    halter("heads", "evaluate", "--part", "some").error(2);
    halter("heads", "evaluate", "--part", "tuning", "--operands", "9-12").error(2);
    halter("heads", "evaluate", "--part", "tuning", "--tuned", "0").error(2);
    halter("heads", "evaluate", "--part", "tuning", "--learn", "3").error(2);
    halter("heads", "evaluate", "--part", "tuning", "--learning-rate", "0").error(2);
    halter("heads", "evaluate", "--at", "start").error(2);
    assertTrue(halter("heads", "evaluate", "--cost", "101").error(2).contains("0 to 100"));
    assertTrue(halter("evaluate", "paper", "sac", "--cost", "-1").error(2).contains("--cost"));
  }
}
