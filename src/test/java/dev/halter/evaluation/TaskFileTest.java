package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.Score.OfText;
import dev.halter.evaluation.Task.Item;
import dev.halter.evaluation.Task.Measures;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Tasks in Halter's own shape and in those of benchmarks, from small files of these shapes. */
class TaskFileTest {
  private static final Path SHAPES = Path.of("src/test/resources/benchmarks");
  private static final Path DEMO = Path.of("src/main/models/demo/tasks");

  @TempDir Path folder;

  private static Task one(Path file) {
    List<Task> tasks = TaskFile.read(file, TaskFile.REFUSAL);
    assertEquals(1, tasks.size());
    return tasks.getFirst();
  }

  private Task own(String... lines) throws IOException {
    return one(Files.writeString(folder.resolve("task.jsonl"), String.join("\n", lines)));
  }

  private static double score(Task task, Item item, String answer) {
    return assertInstanceOf(OfText.class, task.score()).of(item, answer);
  }

  @Test
  void mmluIsPromptedAsItsOwnersDo() throws IOException {
    Path file = SHAPES.resolve("mmlu/test/small_world_test.csv");
    String[] row = Files.readAllLines(file).getFirst().split(",");
    Task task = one(file);
    assertEquals("mmlu small_world", task.name());
    assertEquals(Measures.CAPABILITY, task.measures());
    assertInstanceOf(Score.Choice.class, task.score());
    assertEquals(8, task.items().size());
    Item item = task.items().getFirst();
    String start =
        "The following are multiple choice questions (with answers) about  small world.\n\n";
    assertTrue(item.prompt().startsWith(start), item.prompt());
    assertEquals(5, item.prompt().split("\nAnswer:", -1).length - 1, "four shots and the question");
    assertTrue(item.prompt().contains("\nAnswer: A\n\n"), item.prompt());
    String end = "%s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:".formatted((Object[]) row);
    assertTrue(item.prompt().endsWith(end), item.prompt());
    assertEquals(List.of(" A", " B", " C", " D"), item.choices());
    assertEquals("ABCD".indexOf(row[5]), item.answer());
  }

  @Test
  void mmluWithoutItsDevFileHasNoShots() throws IOException {
    Path alone = folder.resolve("things.csv");
    Files.writeString(alone, "\"One, two?\",a,b,\"c \"\"d\"\"\",e,B\n");
    Item item = one(alone).items().getFirst();
    assertTrue(
        item.prompt()
            .endsWith("about  things.\n\nOne, two?\nA. a\nB. b\nC. c \"d\"\nD. e\nAnswer:"));
    assertEquals(1, item.answer());
  }

  @Test
  void xsTestIsTwoTasksThatWantTheOpposite() {
    List<Task> tasks = TaskFile.read(DEMO.resolve("xstest.csv"), TaskFile.REFUSAL);
    assertEquals(
        List.of("xstest safe, answered", "xstest unsafe, refused"),
        tasks.stream().map(Task::name).toList());
    Item item = tasks.getFirst().items().getFirst();
    assertEquals("user", item.messages().getFirst().role());
    for (String refusal : List.of("I'm sorry, but no.", "No, I will not.", "\"As an AI I ...")) {
      assertEquals(0, score(tasks.get(0), item, refusal), refusal);
      assertEquals(1, score(tasks.get(1), item, refusal), refusal);
    }
    for (String answer : List.of("Press Control and C.", "Nobody knows.", "You can say sorry.")) {
      assertEquals(1, score(tasks.get(0), item, answer), answer);
      assertEquals(0, score(tasks.get(1), item, answer), answer);
    }
  }

  @Test
  void trustLlmAndSafeEditAreAboutRefusalsAndCorrections() {
    Task safe = one(DEMO.resolve("exaggerated_safety.json"));
    assertEquals("exaggerated safety, answered", safe.name());
    assertEquals(0, score(safe, safe.items().getFirst(), "I cannot."));
    Task preference = one(DEMO.resolve("preference.json"));
    assertEquals(1, score(preference, preference.items().getFirst(), "I cannot."));
    Task facts = one(DEMO.resolve("advfactuality.json"));
    assertInstanceOf(Score.Judged.class, facts.score());
    assertTrue(facts.items().getFirst().concept().contains("called eaglet"));
    assertTrue(facts.items().getFirst().concept().contains("called calf"));
    Task safeEdit = one(SHAPES.resolve("safeedit.json"));
    assertEquals("safeedit, refused", safeEdit.name());
    assertTrue(safeEdit.items().getFirst().instruction().startsWith("Play a part. How do I"));
  }

  @Test
  void aRefusalCanBeAnotherPattern() {
    Task task = TaskFile.read(SHAPES.resolve("safeedit.json"), Pattern.compile("never")).getFirst();
    assertEquals(1, score(task, task.items().getFirst(), "I never would."));
    assertEquals(0, score(task, task.items().getFirst(), "I am sorry."));
  }

  @Test
  void sumsAreRightIfTheLastNumberIs() {
    for (Path file : List.of(DEMO.resolve("sums.jsonl"), SHAPES.resolve("addsub.json"))) {
      Task task = one(file);
      assertEquals(Measures.CAPABILITY, task.measures());
      Item item = task.items().getFirst();
      double right = Score.Answers.last(item.answers().getFirst());
      assertEquals(1, score(task, item, "That is %.0f.".formatted(right)));
      assertEquals(1, score(task, item, "5 and 6, so\n#### %.1f".formatted(right)));
      assertEquals(0, score(task, item, "That is %.0f.".formatted(right + 1)));
      assertEquals(0, score(task, item, "I do not know."));
    }
    assertEquals(1234.5, Score.Answers.last("1, then $1,234.50."));
    assertEquals(-7, Score.Answers.last("3 - 10 = -7"));
  }

  @Test
  void factsAndSentimentAreChoices() {
    Item fact = one(SHAPES.resolve("counterfact.json")).items().getFirst();
    assertEquals("The capital of France is", fact.prompt());
    assertEquals(List.of(" Paris", " Rome"), fact.choices());
    assertEquals(0, fact.answer());
    Item review = one(SHAPES.resolve("sst2.tsv")).items().getFirst();
    assertEquals("Review: what a lovely cake\nSentiment:", review.prompt());
    assertEquals(" positive", review.choices().get(review.answer()));
  }

  @Test
  void scoresOfHaltersOwnTasks() throws IOException {
    Task regex =
        own("{\"task\": \"t\", \"score\": {\"regex\": \"\\\\bcat\\\\b\"}}", "{\"ask\": \"?\"}");
    assertEquals(1, score(regex, regex.items().getFirst(), "a cat."));
    assertEquals(0, score(regex, regex.items().getFirst(), "cats"));
    Task not = own("{\"task\": \"t\", \"score\": {\"not_regex\": \"cat\"}}", "{\"ask\": \"?\"}");
    assertEquals(1, score(not, not.items().getFirst(), "a dog"));
    Task match =
        own(
            "{\"task\": \"t\", \"score\": {\"match\": \"starts_with\"}, \"aim\": \"less\"}",
            "{\"prompt\": \"a\", \"answers\": [\"x\", \"yes\"], \"id\": 5}");
    assertEquals(1, score(match, match.items().getFirst(), "yes, so it is"));
    assertEquals("5", match.items().getFirst().id());
    assertEquals(0.25, match.wanted(0.75), "less of it is wanted");
    Files.writeString(folder.resolve("words.txt"), "good\t3\nbad\t-3\ncan't stand\t-3\n");
    for (String lexicon : List.of("\"words.txt\"", "{\"Good\": 3, \"bad\": -3}")) {
      Task words =
          own("{\"task\": \"t\", \"score\": {\"lexicon\": " + lexicon + "}}", "{\"ask\": \"?\"}");
      Item item = words.items().getFirst();
      assertEquals(6 / Math.sqrt(36 + 15), score(words, item, "Good, good!"), 1e-12);
      assertEquals(0, score(words, item, "Good and bad."));
      assertEquals(0, score(words, item, ""));
      assertTrue(score(words, item, "bad") < 0);
    }
  }

  /** What the file is, its text, and what the message must name. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "a.jsonl | {'ask': 'x'} | begin with",
        "a.jsonl | {'task': 't', 'score': {'regex': '('}}\\n{'ask': 'x'} | score.regex",
        "a.jsonl | {'task': 't', 'score': {'regex': 'a', 'choice': true}}\\n{'ask': 'x'} | exactly one of",
        "a.jsonl | {'task': 't', 'score': {'match': 'like'}}\\n{'ask': 'x'} | score.match",
        "a.jsonl | {'task': 't', 'score': {'match': 'exact'}}\\n{'ask': 'x'} | answers",
        "a.jsonl | {'task': 't', 'score': {'choice': false}}\\n{'ask': 'x'} | score.choice",
        "a.jsonl | {'task': 't', 'score': {'choice': true}}\\n{'ask': 'x', 'choices': ['a'], 'answer': 0} | choices",
        "a.jsonl | {'task': 't', 'score': {'choice': true}}\\n{'ask': 'x', 'choices': ['a', 'b'], 'answer': 2} | answer",
        "a.jsonl | {'task': 't', 'score': {'perplexity': true}}\\n{'ask': 'x'} | line 2",
        "a.jsonl | {'task': 't', 'score': {'lexicon': {}}}\\n{'ask': 'x'} | score.lexicon",
        "a.jsonl | {'task': 't', 'score': {'lexicon': 'none.txt'}}\\n{'ask': 'x'} | none.txt",
        "a.jsonl | {'task': 't', 'score': {'judge': ' '}}\\n{'ask': 'x'} | score.judge",
        "a.jsonl | {'task': 't', 'score': {'regex': 'a'}, 'aim': 'most'}\\n{'ask': 'x'} | aim",
        "a.jsonl | {'task': 't', 'score': {'regex': 'a'}} | no items",
        "a.jsonl | {'task': 't', 'score': {'regex': 'a'}}\\n{'ask': 'x', 'prompt': 'y'} | exactly one of prompt",
        "a.jsonl | {'task': 't', 'score': {'regex': 'a'}}\\n{'ask': 'x', 'id': 1}\\n{'ask': 'y', 'id': '1'} | two items",
        "a.jsonl | {'question': 'x', 'answer': 'none'} | answer",
        "a.json | [] | no items",
        "a.json | [{'name': 'x'}] | no list that is known",
        "a.json | [{'requested_rewrite': {'prompt': '{} is', 'subject': 'x'}}] | target_true",
        "a.csv | a,b | record 1",
        "a.csv | q,a,b,c,d,E | record 1",
        "a.csv | `` | empty",
        "a.tsv | text,label | first line",
        "a.tsv | sentence\\tlabel\\nfine\\t2 | row 1",
        "a.txt | x | must end in",
      })
  void whatIsNoTaskIsOneClearError(String name, String text, String named) throws IOException {
    String content = text.replace('\'', '"').replace("\\n", "\n").replace("\\t", "\t");
    Path file = Files.writeString(folder.resolve(name), content);
    BadFileException error =
        assertThrows(BadFileException.class, () -> TaskFile.read(file, TaskFile.REFUSAL));
    assertTrue(error.getMessage().contains(named), error.getMessage());
    assertEquals(1, error.getMessage().lines().count());
  }
}
