package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Sampling;
import dev.halter.model.Edit;
import dev.halter.scoring.Comparison;
import dev.halter.scoring.Perplexity;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.scoring} show. */
class ScoringSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void comparison() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      SteeringPlan dogs = Demo.dog();
      // @start region="comparison"
      int[] question = model.encode(List.of(new Message("user", "What is your favourite animal?")));
      Comparison comparison =
          Comparison.of(model, List.of(question), List.of(dogs), Sampling.GREEDY, 64, 5).getFirst();
      for (Comparison.Item item : comparison.steered()) {
        System.out.println(item.answer() + " perplexity " + item.perplexity());
      }
      // @end
      assertNotEquals(
          comparison.unsteered().answer().text(), comparison.steered().getFirst().answer().text());
    }
  }

  @Test
  void perplexity() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="perplexity"
      List<int[]> texts = List.of(model.encode("A dog is an animal."));
      SteeringPlan headless = SteeringPlan.of(Edit.scaleHeads("blocks.1.attn.hook_z", 0, 0, 1));
      double before = Perplexity.of(model.engine(), texts, SteeringPlan.NONE);
      double after = Perplexity.of(model.engine(), texts, headless);
      // @end
      assertTrue(before > 1);
      assertNotEquals(before, after);
    }
  }
}
