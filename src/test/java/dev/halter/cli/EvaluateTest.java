package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.pictures.Browser;
import dev.halter.text.ChatServer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code halter evaluate} on the model that ships, with some of its tasks and plans. */
class EvaluateTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final Path DOGS = DEMO.resolve("plans/dogs.json");
  private static final ObjectMapper MAPPER = new ObjectMapper();

  @TempDir Path folder;

  /** The first lines of a task that ships. */
  private Path task(String name, int lines) throws IOException {
    List<String> all = Files.readAllLines(DEMO.resolve("tasks").resolve(name));
    return Files.write(folder.resolve(name), all.subList(0, lines));
  }

  private Path nothing() throws IOException {
    return Files.writeString(
        folder.resolve("nothing.json"),
        """
        {"interventions": [
          {"op": "head_scale", "site": "blocks.0.attn.hook_z", "heads": [0], "scale": 1}]}
        """);
  }

  private static List<JsonNode> rows(JsonNode document, String arm, String plan) {
    return StreamSupport.stream(document.get("rows").spliterator(), false)
        .filter(row -> row.get("arm").asText().equals(arm))
        .filter(row -> plan == null || row.get("plan").asText().equals(plan))
        .toList();
  }

  private static double score(JsonNode row, int task) {
    return row.get("scores").get(task).get("score").get("value").asDouble();
  }

  @Test
  void aPlanMovesItsBehaviourAndRandomOnesDoNot() throws Exception {
    Path out = folder.resolve("results.jsonl");
    Path page = folder.resolve("page.html");
    CommandLineRun run =
        halter(
            "evaluate",
            "--task",
            task("dogs.jsonl", 13) + "," + task("facts.jsonl", 5) + "," + task("texts.jsonl", 3),
            "--plan",
            DOGS,
            "--plan",
            nothing(),
            "--draws",
            2,
            "--out",
            out,
            "--html",
            page,
            "--json");
    assertEquals(0, run.code(), run.err());
    JsonNode document = run.json();
    assertEquals(List.of("dogs", "nothing"), strings(document.get("plans")));
    assertFalse(document.get("halved").asBoolean(), "one dose needs no choice");
    JsonNode none = rows(document, "none", null).getFirst();
    JsonNode dogs = rows(document, "plan", "dogs").getFirst();
    JsonNode random = rows(document, "random", "dogs").getFirst();
    assertTrue(score(dogs, 0) > score(none, 0) + 0.3, dogs::toString);
    assertTrue(score(random, 0) < score(none, 0) + 0.2, random::toString);
    JsonNode difference = dogs.get("scores").get(0).get("difference");
    assertEquals(score(dogs, 0) - score(none, 0), difference.get("value").asDouble(), 1e-9);
    assertTrue(difference.get("low").asDouble() > 0, difference::toString);
    assertEquals(12, difference.get("n").asInt());
    assertTrue(score(none, 2) >= 1 && score(dogs, 2) > score(none, 2), "perplexity of the texts");
    assertTrue(dogs.get("perplexity").get("value").asDouble() > 1);
    assertTrue(dogs.get("distance").get("value").asDouble() > 1e-3);
    assertEquals(1, rows(document, "prompting", null).size());
    assertFalse(dogs.get("idle").asBoolean());
    assertFalse(dogs.get("untold").asBoolean());

    JsonNode idle = rows(document, "plan", "nothing").getFirst();
    assertTrue(idle.get("idle").asBoolean(), idle::toString);
    assertTrue(idle.get("untold").asBoolean());
    assertEquals(idle.get("items"), idle.get("same"));
    assertEquals(16, idle.get("items").asInt(), "texts have no answers");
    assertEquals(0, idle.get("distance").get("value").asDouble(), 1e-9);

    List<JsonNode> lines = new ArrayList<>();
    for (String line : Files.readAllLines(out)) {
      lines.add(MAPPER.readTree(line));
    }
    // 18 items without a plan, told, and under each plan and two draws for it.
    assertEquals(1 + 18 * (2 + 2 * 3) + document.get("rows").size(), lines.size());
    assertEquals("evaluation", lines.getFirst().get("line").asText());
    assertEquals("row", lines.getLast().get("line").asText());
    double sum = 0;
    for (JsonNode line : lines) {
      if (line.get("line").asText().equals("answer")
          && line.get("task").asText().equals("dogs")
          && line.get("arm").asText().equals("plan")
          && line.get("plan").asText().equals("dogs")) {
        sum += line.get("score").asDouble();
        assertEquals(
            line.get("text").asText().matches("(?s).*\\bdogs?\\b.*") ? 1 : 0,
            line.get("score").asInt());
      }
    }
    assertEquals(score(dogs, 0), sum / 12, 1e-9);
    drawn(page);
  }

  private static List<String> strings(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).map(JsonNode::asText).toList();
  }

  /** The page shows a dot for each row in each picture, and fits narrow windows. */
  private void drawn(Path page) throws Exception {
    String html = Files.readString(page);
    assertFalse(html.contains("src=") || html.contains("href="), "it needs nothing else");
    try (Browser browser = Browser.start(folder)) {
      for (boolean dark : new boolean[] {false, true}) {
        for (int width : new int[] {420, 1100}) {
          browser.window(width, 900, dark);
          browser.open(page, "");
          assertEquals("", browser.overflowing());
        }
      }
      assertEquals("2", browser.value("String(document.querySelectorAll('svg').length)"));
      assertEquals("12", browser.value("String(document.querySelectorAll('svg .dot').length)"));
      assertEquals("6", browser.value("String(document.querySelectorAll('tbody tr').length)"));
      String readout = "document.getElementById('readout').textContent";
      browser.press("Tab");
      assertTrue(browser.value(readout).startsWith("no plan: dogs "), browser.value(readout));
      browser.press("ArrowRight");
      assertTrue(browser.value(readout).startsWith("told: "), browser.value(readout));
    }
  }

  @Test
  void aDoseIsChosenOnOneHalfAndReportedOnTheOther() throws IOException {
    Path out = folder.resolve("results.jsonl");
    CommandLineRun run =
        halter(
            "evaluate",
            "--task",
            task("dogs.jsonl", 13) + "," + task("facts.jsonl", 5),
            "--plan",
            DOGS,
            "--doses",
            "0,1",
            "--draws",
            0,
            "--out",
            out,
            "--json");
    assertEquals(0, run.code(), run.err());
    assertTrue(run.json().get("halved").asBoolean());
    List<JsonNode> rows = rows(run.json(), "plan", "dogs");
    assertEquals(2, rows.size());
    assertFalse(rows.get(0).get("chosen").asBoolean());
    assertTrue(rows.get(1).get("chosen").asBoolean());
    assertTrue(rows.get(0).get("idle").asBoolean(), "nothing of a plan is no plan");
    assertEquals(6, rows.get(1).get("scores").get(0).get("score").get("n").asInt());
    assertEquals(2, rows.get(1).get("scores").get(1).get("score").get("n").asInt());
    double sum = 0;
    for (String line : Files.readAllLines(out)) {
      JsonNode answer = MAPPER.readTree(line);
      if (answer.get("line").asText().equals("answer")
          && answer.get("task").asText().equals("dogs")
          && answer.get("dose").asDouble() == 1
          && answer.get("reported").asBoolean()) {
        sum += answer.get("score").asDouble();
      }
    }
    assertEquals(score(rows.get(1), 0), sum / 6, 1e-9, "of the other half alone");
  }

  @Test
  void choicesAreTheLikeliestContinuations() throws IOException {
    JsonNode told =
        halter("generate", "--ask", "What is 3 plus 4?", "--max-tokens", 1, "--json").json();
    String said = told.get("text").asText();
    Path task =
        Files.writeString(
            folder.resolve("choice.jsonl"),
            """
            {"task": "sum", "measures": "capability", "score": {"choice": true}}
            {"ask": "What is 3 plus 4?", "choices": ["%1$s", " 12", " 2"], "answer": 0}
            {"ask": "What is 3 plus 4?", "choices": [" 12.", "%1$s.", " a house"], "answer": 1}
            {"ask": "What is 3 plus 4?", "choices": [" 12.", "%1$s."], "answer": 0}
            """
                .formatted(said));
    Path out = folder.resolve("out.jsonl");
    CommandLineRun run = halter("evaluate", "--task", task, "--out", out, "--json");
    assertEquals(0, run.code(), run.err());
    List<Double> scores = new ArrayList<>();
    for (String line : Files.readAllLines(out)) {
      JsonNode answer = MAPPER.readTree(line);
      if (answer.get("line").asText().equals("answer")) {
        scores.add(answer.get("score").asDouble());
        for (JsonNode each : answer.get("choice_logprobs")) {
          assertTrue(each.asDouble() < 0, line);
        }
      }
    }
    assertEquals(List.of(1.0, 1.0, 0.0), scores);
  }

  @Test
  void theTableSaysWhatAPlanDid() throws IOException {
    Path task = task("dogs.jsonl", 4);
    CommandLineRun run = halter("evaluate", "--task", task, "--plan", nothing(), "--draws", 1);
    assertEquals(0, run.code(), run.err());
    List<String> lines = run.out().lines().toList();
    assertEquals("dogs: behaviour, share of 3 items, more is wanted", lines.getFirst());
    assertTrue(
        lines
            .getLast()
            .equals(
                "nothing at 1 changes nothing here: 3 of 3 answers are those without a plan, and KL is 0"),
        run.out());
    assertTrue(lines.stream().anyMatch(line -> line.startsWith("random, for nothing")), run.out());
    assertTrue(lines.stream().anyMatch(line -> line.contains("dogs +0.0 [+0.0, +0.0]")), run.out());
  }

  /** Five questions after animals and three of facts, at two doses and beside a random plan. */
  private Object[] evaluation(Path out, Object... more) throws IOException {
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "evaluate",
                "--task",
                task("dogs.jsonl", 6) + "," + task("facts.jsonl", 4),
                "--plan",
                DOGS,
                "--doses",
                "0,1",
                "--draws",
                1,
                "--out",
                out,
                "--json"));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  @Test
  void aRunThatWasCutOffGoesOn() throws IOException {
    Path whole = folder.resolve("whole.jsonl");
    Path out = folder.resolve("out.jsonl");
    CommandLineRun run = halter(evaluation(whole));
    assertEquals(0, run.code(), run.err());
    List<String> lines = Files.readAllLines(whole);
    int ways = 1 + 1 + 2 * 2; // without, told, and at each dose the plan and a random one
    assertEquals(1 + 8 * ways + ways, lines.size());
    byte[] bytes = Files.readAllBytes(whole);
    int third = String.join("\n", lines.subList(0, 1 + 3 * ways)).length() + 1;
    for (int cut : new int[] {0, 5, third - 1, third, third + 40, bytes.length - 9, bytes.length}) {
      Files.write(out, Arrays.copyOf(bytes, cut));
      CommandLineRun rest = halter(evaluation(out, "--resume"));
      assertEquals(run.json(), rest.json(), "cut at " + cut);
      assertEquals(lines, Files.readAllLines(out), "cut at " + cut);
      int before = cut < third - 1 ? 0 : cut == third - 1 ? 2 : cut <= third + 40 ? 3 : 8;
      assertEquals(
          before > 0, rest.err().contains("; " + before + " items were done before"), rest.err());
      assertEquals(
          cut > 0 && bytes[cut - 1] != '\n', rest.err().contains("was cut off"), rest.err());
    }
  }

  @Test
  void anItemThatLacksAnAnswerIsDoneAgain() throws IOException {
    Path out = folder.resolve("out.jsonl");
    CommandLineRun run = halter(evaluation(out));
    assertEquals(0, run.code(), run.err());
    List<String> lines = Files.readAllLines(out);
    List<String> fewer = new ArrayList<>(lines);
    fewer.remove(9); // of the second item
    Files.write(out, fewer);
    CommandLineRun rest = halter(evaluation(out, "--resume"));
    assertEquals(run.json(), rest.json());
    assertTrue(rest.err().contains("; 7 items were done before"), rest.err());
    assertEquals(Set.copyOf(lines), Set.copyOf(Files.readAllLines(out)));
    assertEquals(lines.size(), Files.readAllLines(out).size(), "and no line stands twice");
  }

  @Test
  void resultsAreNotWrittenOverNorMixed() throws IOException {
    Path out = folder.resolve("out.jsonl");
    assertEquals(0, halter(evaluation(out)).code());
    String results = Files.readString(out);
    String error = halter(evaluation(out)).error(1);
    assertTrue(error.contains(out.toString()) && error.contains("--resume"), error);

    CommandLineRun other = halter(evaluation(out, "--resume", "--seed", 7));
    assertEquals(1, other.code());
    assertTrue(other.err().contains("differs in seed: give the options of that run"), other.err());
    Path dogs = folder.resolve("dogs.json");
    Files.writeString(
        dogs, Files.readString(DOGS).replaceFirst("\"value\": [-\\d.]+", "\"value\": 1"));
    String[] arguments =
        Stream.of(evaluation(out, "--resume"))
            .map(each -> each.equals(DOGS) ? dogs.toString() : each.toString())
            .toArray(String[]::new);
    other = halter((Object[]) arguments);
    assertTrue(other.err().contains("differs in plans: "), other.err());
    assertEquals(results, Files.readString(out));

    for (String something : List.of("not a result", "{\"id\":1}\n", "{\"line\":\"answer\"}\n")) {
      Files.writeString(out, something);
      other = halter(evaluation(out, "--resume"));
      assertEquals(1, other.code(), something);
      assertTrue(other.err().contains(out.toString()), other.err());
      assertEquals(something, Files.readString(out));
    }
  }

  /** Two questions whose answers a server's model rates; {@code further} is said of the second. */
  private Object[] judged(ChatServer server, String further, Object... more) throws IOException {
    Path task =
        Files.writeString(
            folder.resolve("judged.jsonl"),
            """
            {"task": "fond of animals", "score": {"judge": "a favourite animal"}, "max_tokens": 12}
            {"ask": "What is your favourite animal?"}
            {"ask": "Which animal do you like best?"%s}
            """
                .formatted(further));
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "evaluate", "--task", task, "--endpoint", server.url(), "--model-name", "judge"));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  @Test
  void whatTheJudgeRefusedIsTriedAgain() throws IOException {
    boolean[] refuses = {true};
    try (ChatServer server =
        new ChatServer(
            asked ->
                refuses[0] && asked.body().toString().contains("best?")
                    ? ChatServer.Reply.of(400, Map.of("error", Map.of("message", "too rude")))
                    : ChatServer.Reply.of("So.\nRating: [[1]]"))) {
      Object[] arguments =
          judged(server, "", "--out", folder.resolve("out.jsonl"), "--resume", "--json");
      CommandLineRun run = halter(arguments);
      assertEquals(1, unscored(run.json()));
      assertTrue(run.err().contains("1 of 4 questions"), run.err());
      assertTrue(run.err().contains("too rude"), run.err());
      int asked = server.asked().size();
      refuses[0] = false;
      run = halter(arguments);
      assertEquals(0, unscored(run.json()));
      assertTrue(run.err().contains("; 1 items were done before"), run.err());
      assertEquals(asked + 1, server.asked().size());
      assertEquals(1 + 2 + 1, Files.readAllLines(folder.resolve("out.jsonl")).size());
    }
  }

  @Test
  void aJudgeThatRatesNothingIsNotTakenForOne() throws IOException {
    try (ChatServer server = new ChatServer(asked -> ChatServer.Reply.of("A cat,\nI would say."))) {
      CommandLineRun run =
          halter(
              judged(
                  server,
                  "",
                  "--plan",
                  DOGS,
                  "--doses",
                  "0.5,1",
                  "--draws",
                  0,
                  "--judge-answers",
                  folder.resolve("kept.jsonl")));
      assertEquals(0, run.code(), run.err());
      int asked = server.asked().size();
      String said =
          "halter: %1$d of %1$d answers of the judge hold no rating from 0 to 2, such as \"A cat, I would say.\""
              .formatted(asked);
      assertTrue(asked > 3 && run.err().contains(said), run.err());
      assertTrue(run.out().contains("-, 1 unscored"), run.out());
      assertTrue(
          run.out().contains("no dose of dogs is chosen: no answer to tell by has a score"),
          run.out());
      assertFalse(run.out().contains("every interval holds 0"), run.out());
    }
  }

  private static int unscored(JsonNode document) {
    return rows(document, "none", null).getFirst().get("scores").get(0).get("unscored").asInt();
  }

  @Test
  void aJudgeBehindAnEndpointRatesAndIsAskedOnce() throws IOException {
    try (ChatServer server =
        new ChatServer(
            asked -> {
              String text = asked.body().get("messages").get(0).get("content").asText();
              boolean unread = text.contains("[Concept]\na cat");
              return ChatServer.Reply.of(unread ? "I cannot say." : "So.\nRating: [[1]]");
            })) {
      Object[] arguments =
          judged(
              server, ", \"concept\": \"a cat\"", "--out", folder.resolve("out.jsonl"), "--json");
      CommandLineRun run = halter(arguments);
      assertEquals(0, run.code(), run.err());
      JsonNode scored = rows(run.json(), "none", null).getFirst().get("scores").get(0);
      assertEquals(1, scored.get("score").get("value").asDouble());
      assertEquals(1, scored.get("score").get("n").asInt());
      assertEquals(1, scored.get("unscored").asInt());
      assertEquals("judge", run.json().get("judge").get("model").asText());
      int asked = server.asked().size();
      assertEquals(0, server.asked().getFirst().body().get("temperature").asInt());
      assertTrue(Files.exists(folder.resolve("out.jsonl.judge.jsonl")));
      Files.delete(folder.resolve("out.jsonl"));
      assertEquals(run.json(), halter(arguments).json());
      assertEquals(asked, server.asked().size(), "all answers are kept");
    }
  }

  @Test
  void aLocalFolderJudges() throws IOException {
    Path task =
        Files.writeString(
            folder.resolve("judged.jsonl"),
            """
            {"task": "t", "score": {"judge": "a favourite animal"}, "max_tokens": 4}
            {"ask": "What is your favourite animal?"}
            """);
    CommandLineRun run =
        halter(
            "evaluate",
            "--task",
            task,
            "--judge",
            DEMO,
            "--judge-answers",
            folder.resolve("kept.jsonl"),
            "--json");
    assertEquals(0, run.code(), run.err());
    assertTrue(run.json().get("judge").get("model").asText().startsWith("demo "));
    assertEquals(3, Files.readAllLines(folder.resolve("kept.jsonl")).size());
  }

  @Test
  void filesOfBenchmarksAreMeasured() {
    String shapes = "src/test/resources/benchmarks/";
    CommandLineRun run =
        halter(
            "evaluate",
            "--task",
            String.join(
                ",",
                shapes + "mmlu/test/small_world_test.csv",
                shapes + "safeedit.json",
                shapes + "counterfact.json",
                shapes + "sst2.tsv",
                shapes + "addsub.json"),
            "--refusal",
            "(?i)sorry",
            "--json");
    assertEquals(0, run.code(), run.err());
    assertEquals(5, run.json().get("tasks").size());
    for (JsonNode scored : run.json().get("rows").get(0).get("scores")) {
      double value = scored.get("score").get("value").asDouble(-1);
      assertTrue(value >= 0 && value <= 1, scored::toString);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "2 | | --task",
        "2 | --task TASK --doses 1,1 | --doses",
        "2 | --task TASK --draws -1 | --draws",
        "2 | --task TASK --refusal ( | --refusal",
        "2 | --task TASK --task TASK | two tasks",
        "2 | --task TASK --model-name x | --endpoint",
        "2 | --task TASK --resume | --out",
        "2 | --task TASK --judge x --endpoint http://localhost:1/v1 | exclude",
        "2 | --task TASK --endpoint http://localhost:1/v1 --model-name x | --judge-answers",
        "1 | --task none.jsonl | none.jsonl",
        "1 | --task JUDGED | judge",
        "1 | --task TASK --plan none.json | none.json",
        "2 | paper darwin | darwin",
      })
  void wrongUseIsOneClearError(int code, String arguments, String named) throws IOException {
    Path judged =
        Files.writeString(
            folder.resolve("judged.jsonl"),
            "{\"task\": \"t\", \"score\": {\"judge\": \"x\"}}\n{\"ask\": \"?\"}\n");
    String line =
        arguments == null
            ? "evaluate"
            : "evaluate "
                + arguments
                    .replace("TASK", task("dogs.jsonl", 3).toString())
                    .replace("JUDGED", judged.toString());
    String error = halter((Object[]) line.split(" ")).error(code);
    assertTrue(error.contains(named), error);
  }

  @Test
  void daviesClaimsArePutToTheModel() {
    CommandLineRun run =
        halter("evaluate", "paper", "davies", "--words", 6, "--against", DEMO, "--json");
    assertEquals(0, run.code(), run.err());
    assertEquals(List.of("paper", "model", "fingerprint", "device", "claims"), keys(run.json()));
    JsonNode claims = run.json().get("claims");
    assertEquals(4, claims.size());
    for (JsonNode claim : claims) {
      assertEquals(
          List.of("claim", "protocol", "paper", "choices", "figures", "needs"), keys(claim));
      assertTrue(claim.get("figures").size() > 0 && claim.get("choices").size() > 0);
      assertTrue(claim.get("needs").isNull());
    }
    assertEquals(1, figure(claims.get(1), "same top token"), "it agrees with itself");
    assertTrue(
        figure(claims.get(2), "probability clamped")
            > 2 * figure(claims.get(2), "probability before"));
    assertTrue(
        figure(claims.get(3), "words with a working neuron")
            >= figure(claims.get(3), "likewise of random neurons"));
    assertNotEquals(0, figure(claims.get(3), "words with a working neuron"));
  }

  private static double figure(JsonNode claim, String name) {
    return StreamSupport.stream(claim.get("figures").spliterator(), false)
        .filter(figure -> figure.get("name").asText().equals(name))
        .findFirst()
        .orElseThrow()
        .get("value")
        .asDouble();
  }

  @Test
  void whatWasNotTriedSaysWhatItNeeds() {
    CommandLineRun run = halter("evaluate", "paper", "davies", "--words", 2);
    assertEquals(0, run.code(), run.err());
    assertTrue(
        run.out().contains("   not tried  it needs the other model's folder, --against DIR"));
    assertTrue(run.out().lines().allMatch(line -> line.length() <= 100), run.out());
  }

  @Test
  void arithmeticClaimsArePutToTheModel() {
    CommandLineRun run =
        halter("evaluate", "paper", "arithmetic", "--sums", 24, "--draws", 1, "--json");
    assertEquals(0, run.code(), run.err());
    JsonNode claims = run.json().get("claims");
    assertEquals(5, claims.size());
    assertEquals(1, figure(claims.get(1), "sums, intact"));
    assertTrue(
        figure(claims.get(1), "sums, without them")
            < figure(claims.get(1), "sums, without random heads"));
    assertTrue(claims.get(4).get("needs").asText().contains("--tuning"));
  }
}
