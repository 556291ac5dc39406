package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.evaluation.TuningEvaluation.Report;
import dev.halter.evaluation.TuningEvaluation.Row;
import dev.halter.evaluation.TuningEvaluation.Tried;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Question;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Tuning few heads of the model that ships, for a few steps. */
class TuningEvaluationTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  private static LanguageModel open(Path folder) {
    return LanguageModel.at(folder)
        .device("cpu")
        .dtype("f32")
        .threads(2)
        .context(128)
        .maxBatch(64)
        .open();
  }

  private static List<Arithmetic.Example> sums(List<String> operators, int from, int to) {
    Arithmetic arithmetic = Arithmetic.read(DEMO.resolve("tasks/arithmetic.json"));
    return arithmetic.examples(operators, from, to, 7);
  }

  @Test
  void everyWayToTuneHasARow() {
    try (LanguageModel model = open(DEMO)) {
      int[] cat = model.encode("The cat meows. The cat has four legs.");
      Question never = new Question("never", cat, 1, Set.of(), tokens -> false);
      List<String> said = new ArrayList<>();
      Tried tried = new Tried(20, List.of(2), 2, true, 64, 16, 2, List.of(1e-9, 1e-2), 5);
      Report report =
          TuningEvaluation.of(
              model,
              sums(List.of("+"), 1, 9),
              sums(List.of("+"), 11, 20),
              List.of(never),
              List.of(cat),
              tried,
              TuningEvaluationTest::open,
              said::add);
      assertEquals(20, report.pairs());
      assertEquals(2, report.found().size());
      assertEquals(64, report.learnt());
      assertEquals(16, report.measured());
      assertEquals(1, report.before().known(), "only sums that the model knows");
      assertTrue(report.before().added() < 0.3, "sums that it does not: " + report.before());
      assertEquals(0, report.before().other().get("never"));
      assertEquals(
          List.of("2 heads", "2 random heads, mean of 2", "all heads", "all heads and MLPs"),
          report.rows().stream().map(Row::name).toList());
      double fewer = 0;
      for (Row row : List.of(report.rows().get(0), report.rows().get(2), report.rows().get(3))) {
        assertTrue(row.parameters() > fewer, row + "");
        fewer = row.parameters();
        assertEquals(List.of(1e-2), row.learningRates(), "the one with which anything is learnt");
        assertNotEquals(report.before().perplexity(), row.shares().perplexity());
        assertEquals(0, row.shares().other().get("never"));
      }
      assertEquals(report.found().getFirst().head(), report.rows().getFirst().heads().getFirst());
      assertEquals(2, report.rows().get(1).learningRates().size(), "one for each draw");
      assertEquals(5, said.stream().filter(step -> step.startsWith("tuning ")).count());
      assertEquals("7.", model.chat("What is 3 plus 4?").text().strip(), "it is as it was");
    }
  }

  @Test
  void tooFewSumsOrHeadsAreSaidSo() {
    try (LanguageModel model = open(DEMO)) {
      List<Arithmetic.Example> known = sums(List.of("+"), 1, 5);
      // As many others are drawn at random.
      int tooMany = Demo.CONFIG.nLayers() * Demo.CONFIG.nHeads() / 2 + 1;
      for (Tried tried :
          List.of(
              new Tried(10, List.of(1), 0, false, 90_000, 10, 1, List.of(1e-3), 0),
              new Tried(10, List.of(tooMany), 0, false, 10, 10, 1, List.of(1e-3), 0))) {
        assertThrows(
            IllegalArgumentException.class,
            () ->
                TuningEvaluation.of(
                    model,
                    known,
                    sums(List.of("+"), 11, 13),
                    List.of(),
                    List.of(),
                    tried,
                    TuningEvaluationTest::open,
                    step -> {}));
      }
    }
  }
}
