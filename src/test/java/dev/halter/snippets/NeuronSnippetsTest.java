package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.neurons} show. */
class NeuronSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void map() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="map"
      NeuronSearch search = NeuronMap.of(model).search();
      for (NeuronSearch.Hit hit :
          search.byToken(model.tokensOf("dog"), NeuronSearch.Bounds.top(5))) {
        System.out.println(search.site(hit) + " " + hit);
      }
      // @end
      NeuronSearch.Hit hit =
          search.byToken(model.tokensOf("dog"), NeuronSearch.Bounds.top(1)).getFirst();
      assertEquals(Site.Kind.PRE_LINEAR, search.site(hit).kind());
      assertEquals(hit.layer(), search.site(hit).layer());
      assertTrue(model.tokensOf("dog").contains(hit.tokenId()));
    }
  }
}
