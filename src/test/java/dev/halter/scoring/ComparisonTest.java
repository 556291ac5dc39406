package dev.halter.scoring;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Sampling;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.util.List;
import org.junit.jupiter.api.Test;

class ComparisonTest {
  private static final String QUESTION = Demo.QUESTION;
  private static final SteeringPlan DOG = Demo.dog();

  @Test
  void answersAreThoseOfTheirPlansAndAreScoredWithoutOne() {
    try (LanguageModel model = LanguageModel.at(Demo.FOLDER).device("cpu").dtype("f32").open()) {
      int[] question = model.encode(List.of(new Message("user", QUESTION)));
      int[] other = model.encode("The cat");
      List<Comparison> both =
          Comparison.of(
              model, List.of(question, other), List.of(DOG, DOG.scaled(0)), Sampling.GREEDY, 24, 3);
      Comparison comparison = both.getFirst();
      Comparison.Item plain = comparison.unsteered();
      Comparison.Item steered = comparison.steered().getFirst();
      assertEquals(model.chat(QUESTION).text(), plain.answer().text());
      assertEquals(model.chat(QUESTION, DOG).text(), steered.answer().text());
      assertFalse(steered.isSameAs(plain), "the plan changes nothing: the test shows nothing");
      assertEquals(0, steered.partsFrom(plain));
      assertTrue(comparison.steered().getLast().isSameAs(plain));
      assertEquals(-1, comparison.steered().getLast().partsFrom(plain));
      assertEquals(24, both.getLast().unsteered().answer().result().tokens().length);

      // Of the answer without a plan both runs are one; the other was chosen by the plan.
      assertArrayEquals(plain.own(), plain.unsteered(), 1e-9);
      assertTrue(steered.own()[0] > steered.unsteered()[0]);
      for (Comparison.Item item : List.of(plain, steered)) {
        int[] answer = item.answer().result().tokens();
        assertEquals(answer.length, item.unsteered().length);
        double expected =
            Perplexity.of(model.engine(), List.of(question), List.of(answer), SteeringPlan.NONE);
        assertEquals(expected, item.perplexity(), 1e-4 * expected);
        assertEquals(3, item.first().size());
        assertEquals(answer[0], item.first().getFirst().token(), "greedy");
        assertEquals(item.own()[0], item.first().getFirst().logProbability(), 1e-5);
        assertTrue(
            item.first().get(0).logProbability() >= item.first().get(1).logProbability()
                && item.first().get(1).logProbability() >= item.first().get(2).logProbability());
      }
    }
  }
}
