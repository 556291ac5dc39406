package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.halter.concepts.Stimuli;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

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
}
