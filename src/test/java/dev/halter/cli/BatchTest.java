package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static dev.halter.cli.CommandLineRun.parse;
import static dev.halter.cli.CommandLineRun.process;
import static dev.halter.cli.CommandLineRun.results;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter batch}: plans of lines, bad lines, and what a kill leaves. */
class BatchTest {
  private static final List<String> FIELDS =
      List.of("id", "text", "tokens", "prompt_tokens", "finish_reason", "steering_report");

  private final Path model = golden("llama3").resolve("model");

  @TempDir Path folder;

  /** The continuations that transformers makes with hooks, every line with its own plan. */
  @Test
  void linesAreSteeredByTheirOwnPlansAsInTransformers() throws IOException {
    JsonNode cases = parse(Files.readString(golden("llama3").resolve("cases.json")));
    Path vectors = Files.createDirectory(folder.resolve("vectors"));
    for (File vector : golden("llama3").resolve("vectors").toFile().listFiles()) {
      Files.copy(vector.toPath(), vectors.resolve(vector.getName()));
    }
    List<String> lines = new ArrayList<>();
    Map<String, JsonNode> expected = new HashMap<>();
    for (String kind : List.of("unsteered", "steered")) {
      for (JsonNode json : cases.get(kind)) {
        String id = json.get("id").asText();
        String plan = "";
        if (json.has("plan")) {
          // Plans come in the line, or from a file beside the input.
          boolean file = lines.size() % 2 == 0;
          Files.writeString(folder.resolve(id + ".json"), json.get("plan").toString());
          plan = ",\"plan\":" + (file ? "\"" + id + ".json\"" : json.get("plan").toString());
        }
        lines.add("{\"id\":\"%s\",\"tokens\":%s%s}".formatted(id, json.get("tokens"), plan));
        expected.put(id, json.get("continuation"));
      }
    }
    Path out = folder.resolve("out.jsonl");
    JsonNode summary =
        halter(
                "batch",
                "--model",
                model,
                "--in",
                write(lines),
                "--out",
                out,
                "--max-tokens",
                24,
                "--json")
            .json();
    assertEquals(List.of("lines", "answered", "failed", "skipped", "out"), keys(summary));
    assertEquals(lines.size(), summary.get("answered").asInt());
    int eos = 2;
    Map<String, JsonNode> results = results(out);
    assertEquals(expected.keySet(), results.keySet());
    results.forEach(
        (id, result) -> {
          assertEquals(FIELDS, keys(result));
          List<Integer> tokens = ints(expected.get(id));
          boolean stops = tokens.contains(eos);
          assertEquals(
              stops ? tokens.subList(0, tokens.indexOf(eos)) : tokens, ints(result.get("tokens")));
          assertEquals(stops ? "stop" : "length", result.get("finish_reason").asText());
          assertTrue(result.get("text").isNull(), "this model has no tokenizer");
        });
  }

  @Test
  void aLineGivesTheTextOfGenerate() throws IOException {
    Path out = folder.resolve("out.jsonl");
    String question = "Where can you find the cat?";
    Path in =
        write(
            List.of(
                "{\"id\":1,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}"
                    .formatted(question),
                "{\"id\":2,\"prompt\":\"The cat\",\"max_tokens\":7}",
                "{\"id\":3,\"prompt\":\"The cat\",\"max_tokens\":7,\"temperature\":1,\"seed\":5}",
                "{\"id\":4,\"prompt\":\"The cat\",\"max_tokens\":7,\"temperature\":1,\"seed\":6}"));
    assertEquals(0, halter("batch", "--in", in, "--out", out, "--max-tokens", 16).code());
    Map<String, JsonNode> results = results(out);
    assertEquals(
        halter("generate", "--ask", question, "--max-tokens", 16, "--json").json().get("text"),
        results.get("1").get("text"));
    String[] plain = {"generate", "--prompt", "The cat", "--max-tokens", "7", "--json"};
    assertEquals(halter((Object[]) plain).json().get("text"), results.get("2").get("text"));
    assertEquals(
        halter(
                "generate",
                "--prompt",
                "The cat",
                "--max-tokens",
                7,
                "--temperature",
                1,
                "--seed",
                5,
                "--json")
            .json()
            .get("text"),
        results.get("3").get("text"));
    assertFalse(results.get("3").get("text").equals(results.get("4").get("text")), "other seed");
    assertTrue(results.get("1").get("id").isInt(), "an id comes back as it was");
  }

  @Test
  void badLinesFailAloneAndAreNamed() throws IOException {
    String unknownOp =
        "{\"interventions\":[{\"op\":\"improve\",\"site\":\"blocks.0.hook_resid_post\"}]}";
    String noLayer =
        "{\"interventions\":[{\"op\":\"neuron_clamp\",\"site\":\"blocks.9.mlp.hook_pre\","
            + "\"neurons\":[1],\"value\":1}]}";
    Files.writeString(folder.resolve("broken.json"), "{\"interventions\":");
    Map<String, String> bad = new HashMap<>();
    List<String> lines = new ArrayList<>();
    lines.add("{\"id\":\"good-0\",\"tokens\":[5,6]}");
    bad.put("line 2", "not valid JSON");
    lines.add("{\"id\":\"a\",");
    bad.put("line 3", "no \"id\"");
    lines.add("{\"tokens\":[1]}");
    bad.put("line 4", "good-0");
    lines.add("{\"id\":\"good-0\",\"tokens\":[7]}");
    bad.put("line 5", "a string or an integer");
    lines.add("{\"id\":1.5,\"tokens\":[1]}");
    bad.put("line 6", "not a JSON object");
    lines.add("[1]");
    add(lines, bad, "unknown-key", "\"tokens\":[1],\"wish\":1", "wish");
    add(lines, bad, "unknown-op", "\"tokens\":[1],\"plan\":" + unknownOp, "improve");
    add(lines, bad, "no-layer", "\"tokens\":[1],\"plan\":" + noLayer, "layers 0 to 2");
    add(lines, bad, "no-plan-file", "\"tokens\":[1],\"plan\":\"none.json\"", "none.json");
    add(lines, bad, "broken-plan", "\"tokens\":[1],\"plan\":\"broken.json\"", "broken.json");
    add(lines, bad, "plan-number", "\"tokens\":[1],\"plan\":7", "plan");
    String many = "1" + ",1".repeat(600);
    add(lines, bad, "too-long", "\"tokens\":[" + many + "]", "601 tokens");
    add(lines, bad, "vocabulary", "\"tokens\":[1,128]", "0 to 127");
    add(lines, bad, "negative", "\"tokens\":[-1]", "-1");
    add(lines, bad, "word", "\"tokens\":[\"dog\"]", "dog");
    add(lines, bad, "empty", "\"tokens\":[]", "empty");
    add(lines, bad, "both", "\"tokens\":[1],\"prompt\":\"a\"", "exactly one");
    add(lines, bad, "neither", "\"max_tokens\":3", "exactly one");
    add(lines, bad, "no-tokenizer", "\"prompt\":\"a\"", "tokenizer.json");
    add(lines, bad, "temperature", "\"tokens\":[1],\"temperature\":-1", "temperature");
    add(lines, bad, "top-p", "\"tokens\":[1],\"top_p\":0", "top_p");
    add(lines, bad, "max-tokens", "\"tokens\":[1],\"max_tokens\":-1", "max_tokens");
    add(lines, bad, "seed", "\"tokens\":[1],\"seed\":1.5", "seed");
    add(lines, bad, "min-p", "\"tokens\":[1],\"min_p\":1.5", "min_p");
    add(lines, bad, "repetition", "\"tokens\":[1],\"repetition_penalty\":0", "repetition_penalty");
    add(lines, bad, "bias", "\"tokens\":[1],\"logit_bias\":{\"a\":1}", "token ids");
    add(lines, bad, "bias-of-none", "\"tokens\":[1],\"logit_bias\":{\"128\":1}", "0 to 127");
    add(lines, bad, "allowed", "\"tokens\":[1],\"allowed_token_ids\":[]", "at least one token");
    add(
        lines,
        bad,
        "min-tokens",
        "\"tokens\":[1],\"max_tokens\":4,\"min_tokens\":5",
        "max_tokens, 4");
    add(lines, bad, "eos", "\"tokens\":[1],\"ignore_eos\":1", "true or false");
    add(lines, bad, "logprobs", "\"tokens\":[1],\"prompt_logprobs\":1001", "0 to 1000");
    add(lines, bad, "named", "\"tokens\":[1],\"logprob_token_ids\":[128]", "0 to 127");
    lines.add("");
    lines.add("{\"id\":\"good-1\",\"tokens\":[7],\"max_tokens\":3}");
    lines.add("{\"id\":12345678901,\"tokens\":[7],\"max_tokens\":3}");
    Path in = write(lines);
    byte[] notUtf8 = "{\"id\":\"\u00e4\",\"tokens\":[1]}\n".getBytes(StandardCharsets.ISO_8859_1);
    Files.write(in, notUtf8, StandardOpenOption.APPEND);
    bad.put("line " + (lines.size() + 1), "UTF-8");

    Path out = folder.resolve("out.jsonl");
    CommandLineRun run =
        halter("batch", "--model", model, "--in", in, "--out", out, "--max-tokens", 4, "--json");
    assertEquals(1, run.code());
    assertEquals(bad.size(), parse(run.out()).get("failed").asInt());
    assertEquals(3, parse(run.out()).get("answered").asInt());
    assertEquals(bad.size() + 1, run.err().lines().count(), run.err());

    Map<String, JsonNode> results = results(out);
    assertEquals(bad.size() + 3, results.size());
    bad.forEach(
        (id, what) -> {
          JsonNode result = results.get(id);
          assertEquals(List.of("id", "line", "error"), keys(result), id);
          String error = result.get("error").asText();
          assertTrue(error.contains(what), id + ": " + error);
          assertTrue(error.startsWith("line " + result.get("line").asInt()), error);
          assertTrue(run.err().contains(error), "said on standard error too: " + error);
        });
    for (String good : List.of("good-0", "good-1", "12345678901")) {
      assertEquals(FIELDS, keys(results.get(good)));
    }
    Path alone = folder.resolve("alone.jsonl");
    Path one = folder.resolve("one.jsonl");
    Files.writeString(one, lines.getFirst() + "\n");
    assertEquals(
        0,
        halter("batch", "--model", model, "--in", one, "--out", alone, "--max-tokens", 4).code());
    assertEquals(results(alone).get("good-0"), results.get("good-0"));

    // Failed lines are tried again, and fail again.
    CommandLineRun again =
        halter("batch", "--model", model, "--in", in, "--out", out, "--resume", "--json");
    assertEquals(1, again.code());
    JsonNode counts = CommandLineRun.parse(again.out());
    assertEquals(3, counts.get("skipped").asInt());
    assertEquals(lines.size() - 3, counts.get("failed").asInt());
    assertEquals(results, results(out));
  }

  @Test
  void aFailedLineIsTriedAgainUntilItIsAnswered() throws IOException {
    Path plan = folder.resolve("plan.json");
    Path in =
        write(
            List.of(
                "{\"id\":1,\"tokens\":[5,6]}",
                "{\"id\":2,\"tokens\":[5,6],\"plan\":\"plan.json\"}"));
    Path out = folder.resolve("out.jsonl");
    Path link = Files.createSymbolicLink(folder.resolve("link.jsonl"), out.getFileName());
    Object[] run = {
      "batch", "--model", model, "--in", in, "--out", link, "--max-tokens", 2, "--resume"
    };
    assertEquals(1, halter(run).code());
    assertEquals(1, halter(run).code(), "the plan is still missing");
    Files.writeString(
        plan,
        "{\"interventions\": [{\"op\": \"head_scale\", \"site\": \"blocks.0.attn.hook_z\","
            + " \"heads\": [0], \"scale\": 0}]}");
    assertEquals(0, halter(run).code());
    assertTrue(results(out).get("2").has("tokens"), "answered, and the failure is gone");
    byte[] bytes = Files.readAllBytes(out);
    assertEquals(0, halter(run).code());
    assertArrayEquals(bytes, Files.readAllBytes(out));
    assertTrue(Files.isSymbolicLink(link));
  }

  private static void add(
      List<String> lines, Map<String, String> bad, String id, String rest, String what) {
    lines.add("{\"id\":\"" + id + "\"," + rest + "}");
    bad.put(id, what);
  }

  @Test
  void whatCannotBeReadLeavesNothingBehind() {
    Path out = folder.resolve("out.jsonl");
    for (Path in : new Path[] {folder.resolve("none.jsonl"), folder}) {
      String error = halter("batch", "--model", model, "--in", in, "--out", out).error(1);
      assertTrue(error.contains(in.toString()), error);
      assertFalse(Files.exists(out));
    }
  }

  @Test
  void resultsAreNeverOverwritten() throws IOException {
    Path in = write(List.of("{\"id\":1,\"tokens\":[5]}"));
    Path out = folder.resolve("out.jsonl");
    Object[] run = {"batch", "--model", model, "--in", in, "--out", out, "--max-tokens", 2};
    assertEquals(0, halter(run).code());
    String results = Files.readString(out);
    String error = halter(run).error(1);
    assertTrue(error.contains(out.toString()) && error.contains("--resume"), error);
    assertEquals(results, Files.readString(out));
    halter("batch", "--model", model, "--in", in, "--out", in, "--resume").error(2);

    Path other = folder.resolve("notes.txt");
    Files.writeString(other, "not a result");
    halter("batch", "--model", model, "--in", in, "--out", other, "--resume").error(1);
    assertEquals("not a result", Files.readString(other));
  }

  @Test
  void resumingTakesAwayACutOffLineAndDoesTheRest() throws IOException {
    List<String> lines = lines(9, 8);
    Path in = write(lines);
    Path whole = folder.resolve("whole.jsonl");
    Path out = folder.resolve("out.jsonl");
    assertEquals(0, halter("batch", "--model", model, "--in", in, "--out", whole).code());
    byte[] bytes = Files.readAllBytes(whole);
    for (int cut : new int[] {0, 1, 5, bytes.length / 2, bytes.length - 1, bytes.length}) {
      Files.write(out, Arrays.copyOf(bytes, cut));
      assertEquals(
          0, halter("batch", "--model", model, "--in", in, "--out", out, "--resume").code());
      assertEquals(results(whole), results(out), "cut at " + cut);
    }
  }

  /** A process is killed in the middle; another finishes the work. */
  @Test
  @Timeout(300)
  void everyLineHasOneResultAfterAKill() throws IOException, InterruptedException {
    List<String> lines = lines(60, 400);
    lines.add(20, "{\"id\":\"bad\"}");
    lines.add(3, lines.getFirst());
    Path in = write(lines);
    Path whole = folder.resolve("whole.jsonl");
    Path out = folder.resolve("out.jsonl");
    Object[] resume = {"batch", "--model", model, "--in", in, "--out", out, "--resume"};
    assertEquals(1, halter("batch", "--model", model, "--in", in, "--out", whole).code());
    assertEquals(62, results(whole).size());

    Process process =
        process("batch", "--max-batch", 2, "--model", model, "--in", in, "--out", out)
            .redirectErrorStream(true)
            .redirectOutput(folder.resolve("log").toFile())
            .start();
    try {
      while (process.isAlive() && (!Files.exists(out) || Files.readAllLines(out).size() < 8)) {
        Thread.sleep(2);
      }
      assertTrue(process.isAlive(), () -> "ended early: " + read(folder.resolve("log")));
      String error = halter(resume).error(1);
      assertTrue(error.contains("another process"), error);
    } finally {
      process.destroyForcibly().waitFor();
    }
    int standing = Files.readAllLines(out).size();
    assertTrue(standing >= 8 && standing < 62, "killed in the middle, after " + standing);

    halter(resume);
    assertEquals(results(whole), results(out));
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      return e.toString();
    }
  }

  /** Lines of different prompts, some steered, that generate up to {@code maxTokens} tokens. */
  private static List<String> lines(int count, int maxTokens) {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      String plan =
          """
          ,"plan":{"interventions":[{"op":"neuron_clamp","site":"blocks.1.mlp.hook_pre_linear",\
          "neurons":[%d],"value":9}]}"""
              .formatted(i);
      lines.add(
          "{\"id\":\"p%d\",\"tokens\":[%d,%d],\"max_tokens\":%d%s}"
              .formatted(i, 3 + i, 3 + i * i % 120, maxTokens, i % 3 == 0 ? plan : ""));
    }
    return lines;
  }

  private Path write(List<String> lines) throws IOException {
    return Files.write(folder.resolve("in.jsonl"), lines);
  }

  private static List<Integer> ints(JsonNode array) {
    List<Integer> ints = new ArrayList<>();
    array.forEach(item -> ints.add(item.asInt()));
    return ints;
  }
}
