package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.sparse.Solver;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.RemoveConcepts.Coding;
import dev.halter.steering.RemoveConcepts.Solve;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A text that is read in one go under a plan made for it is steered as when it was generated. */
class PlanAlongTest {
  private static final int[] PROMPT = {5, 9, 100, 17, 33, 9};

  private static LanguageModel model;

  @BeforeAll
  static void open() {
    model =
        LanguageModel.at(Path.of("src/test/resources/goldens/llama3/model"))
            .device("cpu")
            .dtype("f32")
            .open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static SteeringPlan plan() {
    float[] vector = new float[model.config().dModel()];
    Random random = new Random(1);
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) random.nextGaussian();
    }
    return SteeringPlan.of(Edit.add("blocks.1.hook_resid_post", vector, 2));
  }

  static List<Trigger> triggers() {
    return List.of(
        Trigger.ALWAYS,
        Trigger.PROMPT,
        Trigger.GENERATION,
        Trigger.LAST,
        Trigger.FROM_LAST,
        Trigger.promptPositions(1, -2),
        Trigger.promptTokens(9),
        Trigger.promptWindow(2, -1),
        Trigger.generationPositions(0, 3),
        Trigger.generationWindow(1, 4),
        Trigger.LAST.or(Trigger.generationPositions(2)),
        Trigger.ALWAYS.except(Trigger.promptPositions(0)));
  }

  private static double[] read(int[] text, SteeringPlan plan) {
    return model
        .engine()
        .run(Request.of(text).withMaxTokens(0).with(plan).with(LogProbabilities.NONE.withPrompt(0)))
        .orThrow()
        .prompt()
        .stream()
        .skip(PROMPT.length)
        .mapToDouble(Generation.Token::logProbability)
        .toArray();
  }

  @ParameterizedTest
  @MethodSource("triggers")
  void probabilitiesAreThoseOfTheGeneration(Trigger trigger) {
    SteeringPlan plan = plan().when(trigger);
    Result said = model.engine().run(Request.of(PROMPT).withMaxTokens(8).with(plan)).orThrow();
    int[] text = Arrays.copyOf(PROMPT, PROMPT.length + 8);
    System.arraycopy(said.tokens(), 0, text, PROMPT.length, 8);
    double[] along = read(text, plan.along(text, PROMPT.length));
    double[] unsteered = read(text, SteeringPlan.NONE);
    double difference = 0;
    for (int i = 0; i < 8; i++) {
      assertEquals(said.logProbabilities()[i], along[i], 1e-4);
      difference = Math.max(difference, Math.abs(along[i] - unsteered[i]));
    }
    assertTrue(difference > 0.01, "the plan changes nothing");
  }

  @Test
  void whatIsEverywhereStaysTheVeryPlan() {
    SteeringPlan plan = plan();
    assertSame(plan, plan.along(new int[] {1, 2, 3}, 2));
    assertFalse(plan.isSolvedAtPromptEnd());
  }

  @Test
  void editsOfNoTokenAreLeftOut() {
    SteeringPlan plan = plan().when(Trigger.generationPositions(5));
    assertEquals(List.of(), plan.along(new int[] {1, 2, 3}, 2).interventions());
  }

  @Test
  void aCodeOfThePromptsEndHasNoPlaceInAText() {
    Coding coding =
        new Coding(Path.of("none"), 0, new Solver.ElasticNet(0.05, 0.95), Solve.PROMPT_END);
    SteeringPlan plan =
        SteeringPlan.of(
            new RemoveConcepts(new Site(Site.Kind.RESID_POST, 0), coding, List.of("a"), false, 1));
    assertTrue(plan.isSolvedAtPromptEnd());
    assertThrows(IllegalArgumentException.class, () -> plan.along(new int[] {1, 2, 3}, 2));
  }
}
