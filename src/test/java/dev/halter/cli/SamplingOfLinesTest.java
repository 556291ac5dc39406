package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.results;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** How lines of a batch draw their tokens, and what is told of the draws. */
class SamplingOfLinesTest {
  @TempDir Path folder;

  private int runs;

  @Test
  void equalLinesDrawByStreamsOfTheirOwnAndAgainTheSame() throws IOException {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      lines.add("{\"id\":%d,\"prompt\":\"The\"}".formatted(i));
    }
    Map<String, JsonNode> first = batch(lines, "--temperature", 1);
    Set<String> texts = new HashSet<>();
    first.values().forEach(result -> texts.add(result.get("tokens").toString()));
    assertEquals(8, texts.size(), texts.toString());

    assertEquals(first, batch(lines, "--temperature", 1, "--seed", 0), "0 is the default");
    assertEquals(first, batch(lines.reversed(), "--temperature", 1), "whatever the order");
    assertNotEquals(first, batch(lines, "--temperature", 1, "--seed", 1));

    // A line's own seed is that of generate, whatever its id.
    Map<String, JsonNode> seeded =
        batch(
            List.of(
                "{\"id\":\"a\",\"prompt\":\"The\",\"seed\":5}",
                "{\"id\":\"b\",\"prompt\":\"The\",\"seed\":5}"),
            "--temperature",
            1);
    JsonNode generated =
        halter(
                "generate",
                "--prompt",
                "The",
                "--temperature",
                1,
                "--seed",
                5,
                "--max-tokens",
                12,
                "--json")
            .json();
    assertEquals(generated.get("tokens"), seeded.get("a").get("tokens"));
    assertEquals(generated.get("tokens"), seeded.get("b").get("tokens"));
  }

  /** Each key of a line does what the option of its name does, and something. */
  @Test
  void keysOfLinesAreOptions() throws IOException {
    Map<String, Object[]> options = new LinkedHashMap<>();
    options.put("\"ignore_eos\":true", new Object[] {"--ignore-eos"});
    options.put("\"min_tokens\":24", new Object[] {"--min-tokens", 24});
    options.put("\"frequency_penalty\":60", new Object[] {"--frequency-penalty", 60});
    options.put("\"presence_penalty\":60", new Object[] {"--presence-penalty", 60});
    options.put("\"repetition_penalty\":9", new Object[] {"--repetition-penalty", 9});
    options.put("\"logit_bias\":{\"30\":100}", new Object[] {"--logit-bias", "30=100"});
    options.put("\"allowed_token_ids\":[30,31,50]", new Object[] {"--allowed-tokens", "30,31,50"});
    options.put(
        "\"temperature\":9,\"seed\":1,\"min_p\":0.9",
        new Object[] {"--temperature", 9, "--seed", 1, "--min-p", 0.9});
    List<String> lines = new ArrayList<>();
    String plain =
        "\"messages\":[{\"role\":\"user\",\"content\":\"What is your favourite animal?\"}],"
            + "\"max_tokens\":25";
    lines.add("{\"id\":0," + plain + "}");
    lines.add("{\"id\":100," + plain + ",\"temperature\":9,\"seed\":1}");
    for (String keys : options.keySet()) {
      lines.add("{\"id\":%d,%s,%s}".formatted(lines.size() - 1, plain, keys));
    }
    Map<String, JsonNode> answers = batch(lines);
    int id = 1;
    for (Map.Entry<String, Object[]> each : options.entrySet()) {
      Object[] command = {
        "generate", "--ask", "What is your favourite animal?", "--max-tokens", 25, "--json"
      };
      for (Object word : each.getValue()) {
        command = append(command, word);
      }
      JsonNode answer = answers.get("" + id++);
      assertEquals(halter(command).json().get("tokens"), answer.get("tokens"), each.getKey());
      String other = each.getKey().contains("min_p") ? "100" : "0";
      assertNotEquals(answers.get(other).get("tokens"), answer.get("tokens"), each.getKey());
    }
  }

  @Test
  void promptsAndNamedTokensHaveLogProbabilities() {
    JsonNode result =
        halter(
                "generate",
                "--prompt",
                "The cat",
                "--max-tokens",
                3,
                "--json",
                "--prompt-logprobs",
                2,
                "--logprob-tokens",
                "30,31")
            .json();
    JsonNode prompt = result.get("prompt_logprobs");
    assertEquals(result.get("prompt_tokens").asInt(), prompt.size());
    assertTrue(prompt.get(0).isNull());
    for (int i = 1; i < prompt.size(); i++) {
      assertEquals(2, prompt.get(i).get("top").size());
    }
    for (JsonNode entry : result.get("logprobs")) {
      assertFalse(entry.has("top"));
      assertEquals(30, entry.get("named").get(0).get("token").asInt());
      assertEquals(31, entry.get("named").get(1).get("token").asInt());
    }
  }

  @Test
  void whatCannotBeIsOneClearError() {
    Object[] generate = {"generate", "--prompt", "The", "--max-tokens", 5, "--json"};
    halter(append(append(generate, "--logit-bias"), "99999=1")).error(1);
    halter(append(append(generate, "--allowed-tokens"), "99999")).error(1);
    halter(append(append(generate, "--min-tokens"), 6)).error(1);
  }

  @Test
  void logProbabilitiesAreToldOnRequest() throws IOException {
    Object[] generate = {"generate", "--prompt", "The", "--max-tokens", 5, "--json"};
    assertFalse(halter(generate).json().has("logprobs"));
    JsonNode result = halter(append(generate, "--logprobs", 400)).json();
    JsonNode entries = result.get("logprobs");
    assertEquals(result.get("tokens").size(), entries.size());
    for (int i = 0; i < entries.size(); i++) {
      JsonNode entry = entries.get(i);
      assertEquals(result.get("tokens").get(i), entry.get("token"));
      JsonNode top = entry.get("top");
      assertEquals(400, top.size());
      assertEquals(entry.get("token"), top.get(0).get("token"), "greedy takes the likeliest");
      assertEquals(entry.get("logprob").asDouble(), top.get(0).get("logprob").asDouble(), 1e-4);
      double sum = 0;
      double before = 0;
      for (JsonNode other : top) {
        double logProbability = other.get("logprob").asDouble();
        assertTrue(logProbability <= before);
        before = logProbability;
        sum += Math.exp(logProbability);
      }
      assertTrue(sum <= 1 + 1e-4 && sum > 0.5, "probabilities: " + sum);
    }
    Map<String, JsonNode> lines =
        batch(
            List.of(
                "{\"id\":1,\"prompt\":\"The\",\"max_tokens\":5}",
                "{\"id\":2,\"prompt\":\"The\",\"max_tokens\":5,\"logprobs\":0}",
                "{\"id\":3,\"prompt\":\"The\",\"max_tokens\":5,\"logprobs\":400}"));
    assertFalse(lines.get("1").has("logprobs"));
    assertFalse(lines.get("2").get("logprobs").get(0).has("top"));
    assertEquals(entries, lines.get("3").get("logprobs"));
    halter("generate", "--prompt", "The", "--logprobs", 2).error(2);
    halter(append(generate, "--logprobs", -2)).error(2);
  }

  private Map<String, JsonNode> batch(List<String> lines, Object... more) throws IOException {
    Path in = Files.writeString(folder.resolve("in.jsonl"), String.join("\n", lines) + "\n");
    Path out = folder.resolve("out" + runs++ + ".jsonl");
    Object[] command = {"batch", "--in", in, "--out", out, "--max-tokens", 12};
    CommandLineRun run = halter(append(command, more));
    assertEquals(0, run.code(), run.err());
    return results(out);
  }

  private static Object[] append(Object[] command, Object... more) {
    return Stream.concat(Stream.of(command), Stream.of(more)).toArray();
  }
}
