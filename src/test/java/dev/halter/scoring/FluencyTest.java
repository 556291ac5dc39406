package dev.halter.scoring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.generation.LanguageModel;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class FluencyTest {
  @Test
  void anotherSentenceIsATextAndBrokenOnesAreNot() {
    try (LanguageModel model = LanguageModel.open(Path.of("src/main/models/demo"))) {
      int[] prompt = model.encode(List.of(new Message("user", "What is your favourite animal?")));
      Fluency own = of(model, prompt, " " + Demo.CAT);
      assertTrue(own.perplexity() > 1 && own.perplexity() < 1.5, own::toString);
      assertTrue(of(model, prompt, " " + Demo.DOG).isCloseTo(own));
      assertFalse(of(model, prompt, " dog. I like the dog because it guards dog.").isCloseTo(own));
      assertFalse(of(model, prompt, " dog. I at at the dog.").isCloseTo(own));
      assertFalse(of(model, prompt, "").isCloseTo(own));
    }
  }

  @Test
  void aLoopIsNoTextHoweverMuchTheModelExpectsIt() {
    Fluency own = new Fluency(1.5, 1);
    assertTrue(new Fluency(1.1, 0.9).isCloseTo(own));
    assertFalse(new Fluency(1.1, 0.2).isCloseTo(own));
  }

  @Test
  void pairsOfNeighboursAreCounted() {
    try (LanguageModel model = LanguageModel.open(Path.of("src/main/models/demo"))) {
      int[] prompt = {1, 2};
      int[] loop = {5, 6, 5, 6, 5};
      assertEquals(0.5, Fluency.of(model.engine(), prompt, loop).distinct());
      assertEquals(1, Fluency.of(model.engine(), prompt, new int[] {5}).distinct());
    }
  }

  private static Fluency of(LanguageModel model, int[] prompt, String answer) {
    return Fluency.of(model.engine(), prompt, model.tokenizer().encode(answer, false));
  }
}
