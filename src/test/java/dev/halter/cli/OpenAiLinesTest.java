package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static dev.halter.cli.CommandLineRun.parse;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter batch} with the lines of OpenAI's batches. */
class OpenAiLinesTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final String CHATS = "/v1/chat/completions";
  private static final String COMPLETIONS = "/v1/completions";
  private static final String[] QUESTIONS = {
    "What is your favourite animal?", "What is 3 plus 4?", "What does a cow eat?"
  };

  @TempDir Path folder;

  private static String line(String id, String url, String body) {
    return "{'custom_id': '%s', 'method': 'POST', 'url': '%s', 'body': {%s}}"
        .formatted(id, url, body)
        .replace('\'', '"');
  }

  private static String chat(String question, String fields) {
    return "'model': 'demo', 'temperature': 0, 'max_tokens': 20, 'messages': [{'role': 'user', 'content': '%s'}]%s"
        .formatted(question, fields);
  }

  private CommandLineRun batch(List<String> lines, String out, Object... options)
      throws IOException {
    Path in = Files.write(folder.resolve("in.jsonl"), lines);
    List<Object> all =
        new ArrayList<>(
            List.of(
                "batch",
                "--model",
                DEMO,
                "--device",
                "cpu",
                "--json",
                "--in",
                in,
                "--out",
                folder.resolve(out)));
    all.addAll(Arrays.asList(options));
    return halter(all.toArray());
  }

  /** Results by the ids of their lines, or by the numbers of those without. */
  private Map<String, JsonNode> results(String out) throws IOException {
    Map<String, JsonNode> results = new LinkedHashMap<>();
    for (String line : Files.readAllLines(folder.resolve(out))) {
      JsonNode result = parse(line);
      assertEquals(List.of("id", "custom_id", "response", "error"), keys(result));
      assertTrue(result.get("id").asText().startsWith("batch_req_"));
      JsonNode id = result.get("custom_id");
      String key = id.isNull() ? "line " + result.get("error").get("line") : id.asText();
      assertEquals(null, results.put(key, result), "one result for each line");
    }
    return results;
  }

  private static JsonNode answer(JsonNode result) {
    assertEquals(200, result.get("response").get("status_code").asInt(), result.toString());
    assertTrue(result.get("error").isNull());
    JsonNode body = result.get("response").get("body");
    assertEquals(body.get("id"), result.get("response").get("request_id"));
    return body;
  }

  /** Plans as a body brings them: by name, by the model's name, in full; and as own lines do. */
  @Test
  void textsUnderPlansAreThoseOfOwnLines() throws IOException {
    Path dogs = DEMO.resolve("plans/dogs.json");
    String plan = Files.readString(dogs).replaceAll("\\s+", " ");
    List<String> own = new ArrayList<>();
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < QUESTIONS.length; i++) {
      String question = QUESTIONS[i];
      String ask =
          "{\"id\": \"%s%d\", \"max_tokens\": 20, \"messages\": [{\"role\": \"user\", \"content\": \"%s\"}]%s}";
      own.add(ask.formatted("plain", i, question, ""));
      own.add(ask.formatted("dogs", i, question, ", \"plan\": \"" + dogs.toAbsolutePath() + "\""));
      lines.add(line("plain" + i, CHATS, chat(question, "")));
      lines.add(line("name" + i, CHATS, chat(question, ", 'plan': 'dogs'")));
      lines.add(line("object" + i, CHATS, chat(question, ", 'plan': ") + plan));
      lines.add(line("alias" + i, CHATS, chat(question, "").replace("'demo'", "'demo@dogs'")));
      String prompt = "<|bos|><|user|> " + question + "<|end|><|assistant|>";
      lines.add(
          line(
              "text" + i,
              COMPLETIONS,
              "'temperature': 0, 'max_tokens': 20, 'plan': 'dogs', 'prompt': '" + prompt + "'"));
    }
    batch(own, "own.jsonl").json();
    JsonNode summary = batch(lines, "out.jsonl", "--plans", DEMO.resolve("plans")).json();
    assertEquals(List.of("lines", "answered", "failed", "skipped", "out"), keys(summary));
    assertEquals(15, summary.get("answered").asInt());
    Map<String, JsonNode> expected = CommandLineRun.results(folder.resolve("own.jsonl"));
    Map<String, JsonNode> results = results("out.jsonl");
    assertNotEquals(expected.get("plain0").get("text"), expected.get("dogs0").get("text"));
    for (int i = 0; i < QUESTIONS.length; i++) {
      for (String id : List.of("plain", "name", "object", "alias", "text")) {
        JsonNode given = expected.get((id.equals("plain") ? "plain" : "dogs") + i);
        JsonNode body = answer(results.get(id + i));
        JsonNode choice = body.get("choices").get(0);
        JsonNode text =
            id.equals("text") ? choice.get("text") : choice.get("message").get("content");
        assertEquals(given.get("text"), text, id + i);
        assertEquals(given.get("steering_report"), body.get("halter").get("report"), id + i);
      }
    }
  }

  @Test
  void aBadLineCostsItselfAloneAndResumingDoesTheRest() throws IOException {
    String fine = line("fine", CHATS, chat(QUESTIONS[0], ""));
    List<String> lines =
        List.of(
            "{\"custom_id\": \"broken\"", // first of all: the form is that of the others
            fine,
            fine,
            line("url", "/v1/embeddings", "'input': 'a'"),
            line("get", CHATS, chat("a", "")).replace("POST", "GET"),
            line("field", CHATS, chat("a", ", 'top_p': 7")),
            line("model", CHATS, chat("a", "").replace("'demo'", "'gpt-4'")),
            line("plan", CHATS, chat("a", ", 'plan': '/etc/passwd'")),
            line("stream", CHATS, chat("a", ", 'stream': true")),
            line("long", COMPLETIONS, "'prompt': 'a', 'max_tokens': 100000"),
            line("fetched", CHATS, chat("a", ", 'capture': {'sites': 'logits', 'as': 'download'}")),
            "{\"id\": \"own\", \"prompt\": \"a\"}",
            "{\"custom_id\": \"none\", \"method\": \"POST\", \"url\": \"" + CHATS + "\"}",
            line("two", COMPLETIONS, "'prompt': ['a', 'b'], 'n': 2, 'max_tokens': 2"));
    CommandLineRun run = batch(lines, "out.jsonl");
    assertEquals(1, run.code());
    assertEquals(12, parse(run.out()).get("failed").asInt(), run.err());
    Map<String, JsonNode> results = results("out.jsonl");
    assertEquals(lines.size(), results.size());
    answer(results.get("fine"));
    assertEquals(4, answer(results.get("two")).get("choices").size());
    Map<String, String> errors =
        new TreeMap<>(
            Map.of(
                "line 1", "not valid JSON",
                "line 3", "same id",
                "get", "\"POST\"",
                "line 12", "none of OpenAI's lines",
                "none", "body"));
    errors.forEach(
        (id, message) -> {
          JsonNode error = results.get(id).get("error");
          assertTrue(results.get(id).get("response").isNull(), id);
          assertEquals(List.of("code", "message", "line"), keys(error));
          assertTrue(error.get("message").asText().contains(message), id + ": " + error);
        });
    Map<String, String> responses =
        Map.of(
            "url", "404 served here",
            "field", "400 top_p",
            "model", "404 gpt-4",
            "plan", "400 no plan",
            "stream", "400 stream",
            "long", "400 100,000",
            "fetched", "400 download");
    responses.forEach(
        (id, said) -> {
          JsonNode response = results.get(id).get("response");
          assertEquals(said.substring(0, 3), response.get("status_code").asText(), id);
          String message = response.get("body").get("error").get("message").asText();
          assertTrue(message.contains(said.substring(4)), id + ": " + message);
          assertTrue(results.get(id).get("error").isNull());
        });

    List<String> mended = new ArrayList<>(lines);
    mended.set(5, line("field", CHATS, chat("a", ", 'top_p': 0.7")));
    JsonNode again = parse(batch(mended, "out.jsonl", "--resume").out());
    assertEquals(2, again.get("skipped").asInt());
    assertEquals(1, again.get("answered").asInt());
    Map<String, JsonNode> resumed = results("out.jsonl");
    assertEquals(results.get("fine"), resumed.get("fine"));
    answer(resumed.get("field"));
    assertEquals(
        Set.of("fine", "two"),
        Set.copyOf(new ArrayList<>(resumed.keySet()).subList(0, 2)),
        "what stood is not done again");
  }

  @Test
  void shardsAreMergedByTheirIds() throws IOException {
    List<String> lines =
        new ArrayList<>(
            IntStream.range(0, 7)
                .mapToObj(i -> line("q" + i, CHATS, chat(QUESTIONS[i % 3], "")))
                .toList());
    lines.set(4, "{\"custom_id\": 7}");
    batch(lines, "whole.jsonl");
    batch(lines, "0.jsonl", "--shard", "0/2");
    assertEquals(1, batch(lines, "1.jsonl", "--shard", "1/2").code());
    Object[] merge = {
      "merge",
      "--in",
      folder.resolve("in.jsonl"),
      "--out",
      folder.resolve("all.jsonl"),
      "--json",
      folder.resolve("0.jsonl"),
      folder.resolve("1.jsonl")
    };
    JsonNode merged = halter(merge).json();
    assertEquals(7, merged.get("lines").asInt());
    assertEquals(1, merged.get("failed").asInt());
    Map<String, JsonNode> whole = results("whole.jsonl");
    results("all.jsonl")
        .forEach(
            (id, result) ->
                assertEquals(
                    whole.get(id).at("/response/body/choices"),
                    result.at("/response/body/choices")));
    merge[7] = folder.resolve("0.jsonl");
    merge[6] = folder.resolve("0.jsonl");
    assertTrue(halter(merge).error(1).contains("once more"));
    String table =
        halter("table", folder.resolve("all.jsonl"), "--out", folder.resolve("t.parquet")).error(1);
    assertTrue(table.contains("OpenAI"), table);
  }

  /** Without a seed a body draws by --seed and its id: each its own text, the same in any run. */
  @Test
  void drawsAreTheSameInAnotherRun() throws IOException {
    String body = "'prompt': 'The', 'max_tokens': 12, 'n': 2";
    List<String> lines = List.of(line("a", COMPLETIONS, body), line("b", COMPLETIONS, body));
    batch(lines, "1.jsonl").json();
    batch(lines, "2.jsonl", "--max-batch", 1).json();
    batch(lines, "3.jsonl", "--seed", 5).json();
    Map<String, JsonNode> first = results("1.jsonl");
    for (String id : List.of("a", "b")) {
      JsonNode choices = answer(first.get(id)).get("choices");
      assertEquals(choices, answer(results("2.jsonl").get(id)).get("choices"));
      assertNotEquals(choices, answer(results("3.jsonl").get(id)).get("choices"));
      assertNotEquals(choices.get(0).get("text"), choices.get(1).get("text"));
    }
    assertNotEquals(answer(first.get("a")).get("choices"), answer(first.get("b")).get("choices"));
  }

  @Test
  void optionsThatSayNothingOfTheLinesAreRefused() throws IOException {
    List<String> lines = List.of(line("a", CHATS, chat("a", "")));
    for (Object[] options :
        new Object[][] {
          {"--temperature", 1}, {"--max-tokens", 5}, {"--ignore-eos"}, {"--logprobs", 2}
        }) {
      String error = batch(lines, "out.jsonl", options).error(2);
      assertTrue(error.contains((String) options[0]) && error.contains("OpenAI's"), error);
    }
    List<String> own = List.of("{\"id\": 1, \"prompt\": \"a\"}");
    String error = batch(own, "out.jsonl", "--plans", DEMO.resolve("plans")).error(2);
    assertTrue(error.contains("--plans"), error);
    assertTrue(!Files.exists(folder.resolve("out.jsonl")));
    List<String> mixed = List.of("{\"id\": 1, \"prompt\": \"a\"}", lines.getFirst());
    batch(mixed, "mixed.jsonl", "--max-tokens", 1);
    String second = Files.readAllLines(folder.resolve("mixed.jsonl")).get(0);
    assertTrue(second.contains("a file of their own"), second);
    Files.delete(folder.resolve("mixed.jsonl"));
    String capture =
        halter(
                "capture",
                "--model",
                DEMO,
                "--sites",
                "logits",
                "--in",
                folder.resolve("in.jsonl"),
                "--out",
                folder.resolve("c"))
            .err();
    assertTrue(capture.contains("OpenAI's lines"), capture);
  }
}
