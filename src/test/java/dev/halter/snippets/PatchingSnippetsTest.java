package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.patching} show. */
class PatchingSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void patch() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="patch"
      Pair pair = Pair.of(model, "3 plus 4 is", "3 or 4 is", "7");
      Effects effects = PathPatching.of(model, List.of(pair));
      System.out.println("the answer's logit: " + effects.referenceLogit());
      // @end
      assertTrue(Double.isFinite(effects.referenceLogit()));
      assertTrue(Arrays.equals(model.encode("3 plus 4 is"), pair.reference()));
      assertThrows(IllegalArgumentException.class, () -> Pair.of(model, "3 plus 4 is", "", "7"));
    }
  }
}
