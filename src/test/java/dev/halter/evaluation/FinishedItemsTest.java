package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.PlanEvaluation.Report;
import dev.halter.evaluation.PlanEvaluation.Row;
import dev.halter.evaluation.PlanEvaluation.Tried;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.steering.SteeringPlan;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Items of an evaluation are finished some at a time, and need not be read again. */
class FinishedItemsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  /** Items as JSON; the one after {@code most} is not taken any more. */
  private static final class Store implements FinishedItems {
    final Map<Object, String> answers = new HashMap<>();
    final List<String> items = new ArrayList<>();
    int most = Integer.MAX_VALUE;
    Map<String, String> run;
    int open;

    @Override
    public List<List<Reading>> restore(Map<String, String> now, List<List<Reading>> all) {
      run = now;
      List<List<Reading>> rest = new ArrayList<>();
      for (List<Reading> item : all) {
        if (item.stream().allMatch(each -> answers.containsKey(AnswerJson.key(each)))) {
          item.forEach(each -> AnswerJson.read(answer(each), each));
        } else {
          rest.add(item);
        }
      }
      open = rest.size();
      return rest;
    }

    private JsonObject answer(Reading reading) {
      byte[] json = answers.get(AnswerJson.key(reading)).getBytes(StandardCharsets.UTF_8);
      JsonObject answer = JsonObject.parse(Path.of("answer"), json);
      assertEquals(AnswerJson.key(reading), AnswerJson.key(answer));
      assertTrue(AnswerJson.isFinished(reading, answer));
      return answer;
    }

    @Override
    public void keep(List<Reading> item) {
      if (items.size() == most) {
        throw new IllegalStateException("killed");
      }
      items.add(item.getFirst().item().id());
      item.forEach(each -> answers.put(AnswerJson.key(each), Json.text(AnswerJson.of(each, true))));
    }
  }

  /** All figures of a report, in which plans are other objects each time. */
  private static List<Object> figures(Report report) {
    List<Object> figures = new ArrayList<>();
    for (Row row : report.rows()) {
      figures.add(
          List.of(
              row.scores(),
              row.entropy(),
              row.distinct(),
              row.perplexity(),
              row.distance(),
              row.same(),
              row.chosen()));
    }
    return figures;
  }

  @Test
  void aRunThatEndedEarlyGoesOnToTheSameFigures() {
    try (LanguageModel model =
        LanguageModel.at(DEMO).device("cpu").dtype("f32").context(256).maxBatch(4).open()) {
      List<Task> tasks = new ArrayList<>();
      for (String name : List.of("dogs.jsonl", "facts.jsonl", "texts.jsonl")) {
        Task task = TaskFile.read(DEMO.resolve("tasks").resolve(name), TaskFile.REFUSAL).getFirst();
        tasks.add(with(task, task.items().subList(0, 6)));
      }
      SteeringPlan dogs = SteeringPlan.read(DEMO.resolve("plans/dogs.json"), model.config());
      Tried tried = new Tried(tasks, List.of(dogs), List.of(1.0, 0.5), 1, 3);
      Report whole = PlanEvaluation.of(model, tried, null, FinishedItems.NONE, step -> {});
      assertEquals(6, whole.rows().size(), "without, told, twice the plan and twice a random one");

      Store store = new Store();
      store.most = 7;
      List<String> steps = new ArrayList<>();
      // Six ways for 8 x 4 answers at a time: five items.
      assertThrows(
          IllegalStateException.class,
          () -> PlanEvaluation.of(model, tried, null, store, steps::add));
      assertEquals(List.of("18 items, 6 ways to steer", "5 of 18 items done"), steps);
      assertEquals(7, store.items.size());

      store.most = Integer.MAX_VALUE;
      steps.clear();
      Report rest = PlanEvaluation.of(model, tried, null, store, steps::add);
      assertEquals("18 items, 6 ways to steer; 7 items were done before", steps.getFirst());
      assertEquals(11, store.open);
      assertEquals(18, store.items.size(), "each once");
      assertEquals(figures(whole), figures(rest));

      Report again = PlanEvaluation.of(model, tried, null, store, step -> {});
      assertEquals(0, store.open);
      assertEquals(figures(whole), figures(again));
    }
  }

  @Test
  void aRunIsToldFromOthers() {
    try (LanguageModel model =
        LanguageModel.at(DEMO).device("cpu").dtype("f32").context(256).maxBatch(4).open()) {
      Task task = TaskFile.read(DEMO.resolve("tasks/facts.jsonl"), TaskFile.REFUSAL).getFirst();
      Task few = with(task, task.items().subList(0, 2));
      SteeringPlan dogs = SteeringPlan.read(DEMO.resolve("plans/dogs.json"), model.config());
      Tried tried = new Tried(List.of(few), List.of(dogs), List.of(1.0), 0, 3);
      Map<String, String> run = identity(model, tried);
      assertEquals(
          run, identity(model, new Tried(List.of(few), List.of(dogs), List.of(1.0), 0, 3)));
      Task.Item item = few.items().getFirst();
      Task otherAnswer =
          with(
              few,
              List.of(
                  item.withChoices(item.choices(), (item.answer() + 1) % 2), few.items().get(1)));
      assertEquals(List.of("tasks"), differing(run, identity(model, with(tried, otherAnswer))));
      Task otherItem = with(task, task.items().subList(1, 3));
      assertEquals(
          List.of("prompts", "tasks"), differing(run, identity(model, with(tried, otherItem))));
      Tried other = new Tried(List.of(few), List.of(dogs.scaled(0.5)), List.of(1.0), 0, 3);
      assertEquals(List.of("plans"), differing(run, identity(model, other)));
      other = new Tried(List.of(few), List.of(dogs.named("cats")), List.of(1.0), 0, 3);
      assertEquals(List.of("plans"), differing(run, identity(model, other)));
      other = new Tried(List.of(few), List.of(dogs), List.of(0.5), 0, 4);
      assertEquals(List.of("doses", "seed"), differing(run, identity(model, other)));
      assertEquals(List.of(), differing(run, run));
      assertFalse(run.get("model").isEmpty());
      assertNotEquals(run.get("prompts"), run.get("tasks"));
    }
  }

  private static Task with(Task task, List<Task.Item> items) {
    return new Task(
        task.name(),
        task.measures(),
        task.score(),
        task.more(),
        task.prompting(),
        task.maxTokens(),
        items);
  }

  private static Tried with(Tried tried, Task task) {
    return new Tried(List.of(task), tried.plans(), tried.doses(), tried.draws(), tried.seed());
  }

  private static Map<String, String> identity(LanguageModel model, Tried tried) {
    Store store = new Store();
    PlanEvaluation.of(model, tried, null, store, step -> {});
    return store.run;
  }

  private static List<String> differing(Map<String, String> one, Map<String, String> other) {
    assertEquals(one.keySet(), other.keySet());
    return one.keySet().stream()
        .filter(name -> !one.get(name).equals(other.get(name)))
        .sorted()
        .toList();
  }
}
