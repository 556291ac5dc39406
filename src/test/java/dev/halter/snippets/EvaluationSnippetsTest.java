package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.Arithmetic;
import dev.halter.evaluation.FinishedItems;
import dev.halter.evaluation.PlanEvaluation;
import dev.halter.evaluation.Task;
import dev.halter.evaluation.TaskFile;
import dev.halter.generation.LanguageModel;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.evaluation} show. */
class EvaluationSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void arithmetic() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="arithmetic"
      List<Arithmetic.Example> sums = Arithmetic.standard().examples(List.of("+"), 1, 9, 1);
      Arithmetic.Pairs pairs =
          Arithmetic.pairs(model, sums, new Arithmetic.Wanted(20, false, true));
      System.out.println(pairs.pairs().size() + " pairs of " + pairs.tried() + " sums");
      // @end
      assertTrue(pairs.tried() > 0);
    }
  }

  @Test
  void plans() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      Path tasks = DEMO.resolve("tasks");
      // @start region="plans"
      List<Task> task = TaskFile.read(tasks.resolve("dogs.jsonl"), TaskFile.REFUSAL);
      SteeringPlan dogs = SteeringPlan.read(DEMO.resolve("plans/dogs.json"), model.config());
      PlanEvaluation.Tried tried =
          new PlanEvaluation.Tried(task, List.of(dogs), List.of(1.0), 1, 0);
      for (PlanEvaluation.Row row :
          PlanEvaluation.of(model, tried, null, FinishedItems.NONE, step -> {}).rows()) {
        System.out.println(row.arm().kind() + " " + row.scores().getFirst().score());
      }
      // @end
      assertTrue(dogs.interventions().size() > 0);
    }
  }
}
