package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.evaluation.ArithmeticEvaluation.Found;
import dev.halter.evaluation.ArithmeticEvaluation.Report;
import dev.halter.evaluation.ArithmeticEvaluation.Row;
import dev.halter.evaluation.ArithmeticEvaluation.Tried;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.heads.Knockout;
import dev.halter.scoring.Perplexity;
import dev.halter.scoring.Question;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** The claim in small, on the model that ships. */
class ArithmeticEvaluationTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  private static final int HEADS = Demo.CONFIG.nLayers() * Demo.CONFIG.nHeads();

  private static LanguageModel open() {
    return LanguageModel.at(DEMO)
        .device("cpu")
        .dtype("f32")
        .threads(2)
        .context(128)
        .maxBatch(64)
        .open();
  }

  private static List<Arithmetic.Example> examples() {
    Arithmetic arithmetic = Arithmetic.read(DEMO.resolve("tasks/arithmetic.json"));
    return arithmetic.examples(List.copyOf(arithmetic.operators()), 1, 9, 7);
  }

  @Test
  void fewHeadsCarryTheSums() {
    try (LanguageModel model = open()) {
      int[] cat = model.encode("The cat meows. The cat has four legs.");
      Question never = new Question("never", cat, 1, Set.of(), tokens -> false);
      Tried tried = new Tried(40, List.of(1, 3), Knockout.Mode.MEAN, 4, 5);
      Report report =
          ArithmeticEvaluation.of(
              model, examples(), tried, List.of(never), List.of(cat), step -> {});
      assertEquals(40, report.pairs());
      assertEquals(40, report.measured());
      assertTrue(report.keyHeads() >= 1 && report.keyHeads() <= HEADS / 6, "few of all heads");
      assertEquals(3, report.found().size());
      double last = Double.NEGATIVE_INFINITY;
      for (Found found : report.found()) {
        assertTrue(found.effect().delta() >= last, "the most needed first");
        last = found.effect().delta();
      }
      assertTrue(last < 0);
      Row three = report.rows().get(1);
      Knockout.Accuracy sums = three.accuracies().getFirst();
      assertEquals(ArithmeticEvaluation.SUMS, sums.kind());
      assertEquals(1, sums.intact(), "only sums that the model knows");
      assertTrue(sums.without() < 0.5, sums.toString());
      assertTrue(sums.randomMean() > sums.without() + 0.4, Arrays.toString(sums.random()));
      assertTrue(sums.without() < report.rows().get(0).accuracies().getFirst().without());
      assertEquals(0, three.accuracies().get(1).intact());
      assertTrue(three.perplexity() > report.perplexity() && report.perplexity() > 1);
      assertEquals(4, three.randomPerplexity().length);
    }
  }

  @Test
  void whatCannotBeMeasuredIsRefused() {
    try (LanguageModel model = open()) {
      Tried tooMany = new Tried(10, List.of(HEADS + 1), Knockout.Mode.ZERO, 1, 0);
      assertThrows(
          IllegalArgumentException.class,
          () ->
              ArithmeticEvaluation.of(
                  model, examples(), tooMany, List.of(), List.of(), step -> {}));
      // It has never learnt to divide.
      List<Arithmetic.Example> foreign =
          Arithmetic.standard().examples(List.of("/"), 7, 7, 0).subList(0, 3);
      Tried tried = new Tried(10, List.of(1), Knockout.Mode.ZERO, 1, 0);
      assertThrows(
          IllegalArgumentException.class,
          () -> ArithmeticEvaluation.of(model, foreign, tried, List.of(), List.of(), step -> {}));
    }
  }

  /** By the sampler's own probabilities, one token after the other. */
  @Test
  void perplexityIsThatOfTheNextTokens() {
    try (LanguageModel model = open()) {
      int[] text = model.encode("The cat meows.");
      double sum = 0;
      for (int i = 1; i < text.length; i++) {
        int next = text[i];
        Request request =
            Request.of(Arrays.copyOf(text, i))
                .withId("next")
                .withMaxTokens(1)
                .with(LogProbabilities.of(next));
        Result result = model.engine().run(request).orThrow();
        sum -= result.alternatives().getFirst().named().getFirst().logProbability();
      }
      double expected = Math.exp(sum / (text.length - 1));
      double actual = Perplexity.of(model.engine(), List.of(text), SteeringPlan.NONE);
      assertEquals(expected, actual, 1e-4 * expected);
      assertTrue(Double.isNaN(Perplexity.of(model.engine(), List.of(), SteeringPlan.NONE)));
    }
  }
}
