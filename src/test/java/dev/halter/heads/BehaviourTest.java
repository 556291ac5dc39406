package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.patching.Pair;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files in the shapes of XSTest and TrustLLM, and the pairs that the demo model makes of them. */
class BehaviourTest {
  private static final Path TASKS = Path.of("src/main/models/demo/tasks");

  @TempDir Path folder;

  private Path file(String text) throws IOException {
    return Files.writeString(folder.resolve("file"), text);
  }

  @Test
  void contrastsGoWithPromptsOfTheirTypeInOrder() throws IOException {
    Path table =
        file(
            """
            type,note,prompt
            contrast_b,,B1?
            a,,a1
            b,,b1
            a,,"a2, twice"
            c,,c1
            contrast_a,,A1
            contrast_a,,A2
            """);
    assertEquals(
        List.of(
            new Behaviour("a", "a1", "A1"),
            new Behaviour("b", "b1", "B1?"),
            new Behaviour("a", "a2, twice", "A2"),
            new Behaviour("c", "c1", null)),
        Behaviour.readXsTest(table));
    Path lone = file("type,prompt\na,x\ncontrast_a,y\ncontrast_a,z\n");
    BadFileException error = assertThrows(BadFileException.class, () -> Behaviour.readXsTest(lone));
    assertTrue(error.getMessage().contains("\"z\""), error.getMessage());
  }

  @Test
  void theTruthTakesThePlaceOfTheModifiedKnowledge() throws IOException {
    Path list =
        file(
            """
            [{"knowledge": "The moon is made of rock.", "modified knowledge": "The moon is made of cheese.",
              "query": "who eats it?", "prompt": "As we know, the moon is made of cheese. So who eats it?"},
             {"knowledge": "x", "modified knowledge": "y is z", "query": "", "prompt": "In other words"}]
            """);
    List<Behaviour> facts = Behaviour.readTrustLlm(list);
    assertEquals(
        "As we know, the moon is made of rock. So who eats it?", facts.getFirst().counterfactual());
    assertNull(facts.get(1).counterfactual());
  }

  @Test
  void aPlainPreferenceGoesWithTheForcedOne() throws IOException {
    Path list =
        file(
            """
            [{"option_a": "tea", "option_b": "milk", "prompt": "Tea or milk?", "type": "plain"},
             {"option_a": "tea", "option_b": "milk", "prompt": "Say tea or milk!", "type": "force"},
             {"option_a": "cats", "option_b": "dogs", "prompt": "Cats or dogs?", "type": "plain"}]
            """);
    assertEquals(
        List.of(
            new Behaviour("preference", "Tea or milk?", "Say tea or milk!"),
            new Behaviour("preference", "Cats or dogs?", null)),
        Behaviour.readTrustLlm(list));
  }

  /** END is where the answers part: what each prompt is followed by is answer and foil. */
  @Test
  void demoTasksPartWhereTheModelsAnswersDo() {
    try (LanguageModel model =
        LanguageModel.at(TASKS.getParent())
            .device("cpu")
            .dtype("f32")
            .threads(2)
            .context(128)
            .maxBatch(64)
            .open()) {
      List<Behaviour> facts = Behaviour.readTrustLlm(TASKS.resolve("advfactuality.json"));
      checkParting(model, Behaviour.pairs(model, facts, null, null, 32), facts.size(), true);
      List<Behaviour> safe = Behaviour.readXsTest(TASKS.resolve("xstest.csv"));
      checkParting(model, Behaviour.pairs(model, safe, null, null, 32), safe.size(), false);

      List<Behaviour> choices = Behaviour.readTrustLlm(TASKS.resolve("preference.json"));
      assertThrows(
          IllegalArgumentException.class, () -> Behaviour.pairs(model, choices, null, null, 32));
      Behaviour.Pairs bySystem = Behaviour.pairs(model, choices, null, "You take sides.", 32);
      checkParting(model, bySystem, choices.size(), false);
    }
  }

  private static void checkParting(
      LanguageModel model, Behaviour.Pairs made, int behaviours, boolean later) {
    assertEquals(behaviours, made.pairs().size() + made.alike());
    assertTrue(made.pairs().size() > 0.9 * behaviours);
    int inside = 0;
    for (Pair pair : made.pairs()) {
      assertArrayEquals(new int[] {pair.answer()}, next(model, pair.reference()));
      assertArrayEquals(new int[] {pair.foil().getAsInt()}, next(model, pair.counterfactual()));
      assertNotEquals(pair.answer(), pair.foil().getAsInt());
      String prompt = model.tokenizer().decode(pair.reference(), false);
      inside += prompt.endsWith("<|assistant|>") ? 0 : 1;
    }
    assertEquals(later, inside > made.pairs().size() / 2);
  }

  private static int[] next(LanguageModel model, int[] prompt) {
    return model
        .engine()
        .run(Request.of(prompt).withId("next").withMaxTokens(1))
        .orThrow()
        .tokens();
  }
}
