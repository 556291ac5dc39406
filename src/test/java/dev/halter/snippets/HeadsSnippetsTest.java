package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.Knockout;
import dev.halter.model.Head;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.heads} show. */
class HeadsSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void knockout() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="knockout"
      Knockout knockout =
          new Knockout(
              model.engine(), new Knockout.Setting(Knockout.Mode.ZERO, Reach.ALL, List.of(), 1));
      SteeringPlan without = knockout.plan(List.of(new Head(1, 0), new Head(1, 3)), 0);
      Answer answer = model.generate("My favourite animal is", without);
      // @end
      assertEquals(1, without.interventions().size());
      assertTrue(answer.report().interventions().getFirst().meanChange() > 0);
    }
  }
}
