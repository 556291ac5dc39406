package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.Arithmetic;
import dev.halter.generation.LanguageModel;
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
}
