package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.concepts.ControlVectorFit;
import dev.halter.concepts.ControlVectorFit.Length;
import dev.halter.concepts.ControlVectorFit.Method;
import dev.halter.concepts.Stimuli;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.concepts} show. */
class ConceptsSnippetsTest {
  @Test
  void stimuli() {
    Path file = Path.of("src/main/models/demo/concepts/stimuli.jsonl");
    // @start region="stimuli"
    Stimuli stimuli = Stimuli.read(file);
    for (int i = 0; i < stimuli.concepts().size(); i++) {
      System.out.println(stimuli.concepts().get(i) + ": " + stimuli.texts(i).size() + " texts");
    }
    // @end
    assertFalse(stimuli.concepts().isEmpty());
    assertFalse(stimuli.texts(0).isEmpty());
  }

  @Test
  void vector(@TempDir Path folder) {
    try (LanguageModel model = LanguageModel.open(Path.of("src/main/models/demo"))) {
      // @start region="vector"
      List<int[]> loud = List.of(model.encode("The dog barks"), model.encode("The lion roars"));
      List<int[]> quiet = List.of(model.encode("The dog sleeps"), model.encode("The lion sleeps"));
      List<Site> sites = List.of(Site.of("blocks.1.hook_resid_post"));
      ControlVectorFit fit =
          new ControlVectorFit(model, sites, Method.MEAN, Length.GAP, loud, quiet);
      fit.write(folder.resolve("loud.gguf"));
      System.out.println(fit.fits().getFirst().fitted().auc());
      // @end
      assertEquals(1, fit.fits().getFirst().fitted().auc());
      assertTrue(Files.exists(folder.resolve("loud.gguf")));
    }
  }
}
