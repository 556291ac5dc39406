package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.ControlEvaluation.Choice;
import dev.halter.evaluation.ControlEvaluation.Report;
import dev.halter.evaluation.ControlEvaluation.Row;
import dev.halter.evaluation.ControlEvaluation.Setting;
import dev.halter.evaluation.ControlTask.Prompt;
import dev.halter.evaluation.ControlTask.Suite;
import dev.halter.files.BadFileException;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What Gaussian control does to the demo model, on a part of its suite. */
class ControlEvaluationTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final Path SUITE = DEMO.resolve("tasks/controls.json");

  private static LanguageModel model;
  private static Suite suite;

  @TempDir Path folder;

  @BeforeAll
  static void open() {
    model =
        LanguageModel.at(DEMO)
            .device("cpu")
            .dtype("f32")
            .threads(2)
            .context(256)
            .maxBatch(32)
            .open();
    suite = ControlTask.read(SUITE, model);
  }

  @AfterAll
  static void close() {
    model.close();
  }

  /** Some of a task of the suite. */
  private static ControlTask some(String name, int train, int test) {
    ControlTask all =
        suite.tasks().stream().filter(task -> task.name().equals(name)).findAny().orElseThrow();
    return new ControlTask(
        name, all.measure(), all.train().subList(0, train), all.test().subList(0, test));
  }

  @Test
  void trainingAndTestPromptsAreApart() {
    for (ControlTask task : suite.tasks()) {
      List<String> train = task.train().stream().map(Prompt::user).toList();
      for (Prompt prompt : task.test()) {
        assertFalse(train.contains(prompt.user()), prompt.user());
      }
    }
    assertFalse(suite.spared().isEmpty());
    List<List<Integer>> other = suite.other().stream().map(q -> ids(q.prompt())).toList();
    for (Question question : suite.spared()) {
      assertFalse(other.contains(ids(question.prompt())), model.decode(question.prompt()));
    }
  }

  private static List<Integer> ids(int[] prompt) {
    return Arrays.stream(prompt).boxed().toList();
  }

  @Test
  void oneHeadDeclinesPreferencesAndCostsNothingElsewhere() {
    Suite part =
        new Suite(
            List.of(some("preference", 8, 6), some("harmless", 4, 3)),
            List.of(),
            suite.other().subList(0, 6),
            suite.texts().subList(0, 2));
    Setting setting =
        new Setting(
            List.of(1), List.of(Method.WHITEN), List.of(1.5f), 0.1, 0, List.of(Reach.ANSWER), 2, 0);
    Report report = ControlEvaluation.of(model, part, setting, step -> {});
    Choice choice = report.choices().getFirst();
    assertEquals(0, choice.before());
    assertTrue(Double.isNaN(choice.cost()), "nothing was asked that it could cost");
    assertTrue(choice.after() > 0.9, choice.toString());

    Row none = report.rows().getFirst();
    assertEquals("none", none.name());
    Row alone = report.rows().get(1);
    assertEquals("heads for preference", alone.name());
    assertEquals(0, none.tasks()[0]);
    assertTrue(alone.tasks()[0] > 0.9, "declined: " + alone.tasks()[0]);
    assertEquals(none.tasks()[1], alone.tasks()[1], "the other behaviour stays");
    assertTrue(alone.other() > none.other() - 0.1, "other questions: " + alone.other());
    assertEquals(1, alone.perplexity() / none.perplexity(), 0.02);
    List<Row> random =
        report.rows().stream().filter(row -> row.name().startsWith("random")).toList();
    assertEquals(2, random.size());
    for (Row row : random) {
      assertTrue(row.tasks()[0] < 0.1, row.name());
    }
  }

  /** The stronger of two settings is better on the task, and costs more than 5 points elsewhere. */
  @Test
  void aChoiceKeepsToWhatItMayCost() {
    Suite part = new Suite(List.of(some("harmless", 18, 2)), suite.spared(), List.of(), List.of());
    Choice best = harmless(part, 1);
    Choice mild = harmless(part, 0.05);
    assertTrue(best.cost() > 0.05, best.toString());
    assertTrue(mild.cost() <= 0.05, mild.toString());
    assertTrue(mild.after() < best.after(), mild + " is not as good as " + best);
    Choice none = harmless(part, -1);
    assertTrue(none.cost() <= mild.cost(), "where all cost more, the least: " + none);
  }

  private static Choice harmless(Suite part, double cost) {
    Setting setting =
        new Setting(
            List.of(4),
            List.of(Method.WHITEN),
            List.of(0.5f, 2f),
            0.1,
            cost,
            List.of(Reach.ANSWER),
            1,
            0);
    return ControlEvaluation.of(model, part, setting, step -> {}).choices().getFirst();
  }

  /** Both tasks need some of the same heads, where maps of one spoil the other. */
  @Test
  void pairsOfTwoTasksTogetherKeepWhatEachHasAlone() {
    Suite part =
        new Suite(
            List.of(some("preference", 20, 10), some("harmless", 18, 9)),
            List.of(),
            List.of(),
            List.of());
    Setting setting =
        new Setting(
            List.of(4), List.of(Method.PAIRS), List.of(1.5f), 0.01, 0, List.of(Reach.ANSWER), 1, 0);
    Report report = ControlEvaluation.of(model, part, setting, step -> {});
    Map<String, double[]> shares = new HashMap<>();
    report.rows().forEach(row -> shares.put(row.name(), row.tasks()));
    double alone = shares.get("heads for preference")[0] + shares.get("heads for harmless")[1];
    assertTrue(alone > 1.2, "both are controlled alone: " + alone);
    assertTrue(sum(shares, "heads for all, merged") > 0.8 * alone, report.toString());
    assertTrue(sum(shares, "heads for all, composed") < 0.8 * alone, report.toString());
    assertEquals("heads for all, merged", report.joint());
    assertEquals(0, sum(shares, "random heads, draw 1"));
  }

  private static double sum(Map<String, double[]> shares, String row) {
    return Arrays.stream(shares.get(row)).sum();
  }

  @Test
  void theNumbersOfHeadsThatAreTriedGrowWithTheModel() {
    assertEquals(List.of(1), Setting.numbersOf(1));
    assertEquals(List.of(1, 2, 4), Setting.numbersOf(24));
    assertEquals(List.of(1, 2, 4, 8, 16), Setting.numbersOf(64));
    assertEquals(List.of(16, 32, 64, 128, 256), Setting.numbersOf(1024));
  }

  @Test
  void aSystemMessageThatChangesNothingLeavesNothingToControl() throws IOException {
    Path file = folder.resolve("suite.json");
    String prompt =
        "{\"prompt\": \"What colour is the %s?\", \"match\": \"exact\", \"answers\": [\"x\"]}";
    String task =
        "{\"name\": \"n\", \"measure\": \"m\", \"systems\": [%s], \"train\": [%s], \"test\": [%s]}";
    String two = prompt.formatted("lion") + ", " + prompt.formatted("frog");
    Files.writeString(
        file, "{\"controls\": [" + task.formatted("\"You take sides.\"", two, two) + "]}");
    Suite same = ControlTask.read(file, model);
    assertEquals("You take sides.", same.tasks().getFirst().test().get(1).system());
    Setting setting =
        new Setting(List.of(1), List.of(Method.MEAN), List.of(1f), 0, 0, List.of(Reach.END), 0, 0);
    assertTrue(same.other().isEmpty() && same.texts().isEmpty());
    String error =
        assertThrows(
                IllegalArgumentException.class,
                () -> ControlEvaluation.of(model, same, setting, step -> {}))
            .getMessage();
    assertTrue(error.startsWith("n: ") && error.contains("nothing to control"), error);

    for (String bad :
        List.of(
            "{\"controls\": []}",
            "{\"controls\": [" + task.formatted("", two, two) + "]}",
            "{\"controls\": [" + task.formatted("\"s\"", two, prompt.formatted("lion")) + "]}",
            "{\"controls\": [" + task.formatted("\"s\"", two, two) + "], \"texts\": [\"\"]}",
            "{\"controls\": [" + task.formatted("\"s\"", two, two) + "], \"more\": 1}")) {
      Files.writeString(file, bad);
      assertThrows(BadFileException.class, () -> ControlTask.read(file, model), bad);
    }
  }
}
