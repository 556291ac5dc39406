package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Plans of the same size of something else. */
class RandomPlansTest {
  private static final ModelConfig CONFIG =
      ModelConfig.read(Path.of("src/test/resources/goldens/llama3/model"));

  private static Edit draw(Edit edit) {
    SteeringPlan plan = SteeringPlan.of(edit).when(Trigger.LAST).named("plan");
    SteeringPlan drawn = new RandomPlans(CONFIG, plan, 1).draw();
    drawn.interventions().forEach(each -> each.edit().requireOf(CONFIG));
    drawn.interventions().forEach(each -> assertEquals(Trigger.LAST, each.trigger()));
    assertEquals("random, for plan", drawn.name());
    return drawn.interventions().getFirst().edit();
  }

  private static double norm(float[] vector) {
    double squares = 0;
    for (float x : vector) {
      squares += x * x;
    }
    return Math.sqrt(squares);
  }

  private static float[] vector() {
    float[] vector = new float[CONFIG.dModel()];
    Random random = new Random(3);
    for (int i = 0; i < vector.length; i++) {
      vector[i] = random.nextFloat();
    }
    return vector;
  }

  @Test
  void directionsKeepTheirNorm() {
    Edit.Add add = new Edit.Add(new Site(Site.Kind.RESID_POST, 1), vector(), 3);
    Edit.Add drawn = assertInstanceOf(Edit.Add.class, draw(add));
    assertEquals(norm(add.vector()), norm(drawn.vector()), 1e-4);
    assertEquals(3, drawn.scale());
    assertEquals(add.site(), drawn.site());
    assertTrue(Math.abs(drawn.vector()[0] - add.vector()[0]) > 1e-6);
    Edit.Ablate ablate =
        assertInstanceOf(Edit.Ablate.class, draw(Edit.ablate("blocks.0.hook_resid_mid", vector())));
    assertEquals(1, norm(ablate.unit()), 1e-5);
  }

  @Test
  void neuronsAreOthersOfTheLayer() {
    Edit.Neurons neurons =
        assertInstanceOf(
            Edit.Neurons.class, draw(Edit.clampRange("blocks.1.mlp.hook_pre", -1, 2, 0, 5, 9)));
    Set<Integer> drawn = new HashSet<>();
    Arrays.stream(neurons.neurons()).forEach(drawn::add);
    assertEquals(3, drawn.size());
    assertTrue(drawn.stream().noneMatch(Set.of(0, 5, 9)::contains));
    assertEquals(2, neurons.max());
  }

  @Test
  void headsAreOthersOfTheModelWithTheSameMaps() {
    int d = CONFIG.dHead();
    float[] maps = new float[2 * d * d];
    float[] offsets = new float[2 * d];
    maps[d * d] = 7;
    offsets[d] = 5;
    Site site = new Site(Site.Kind.Z, 0);
    SteeringPlan plan =
        SteeringPlan.of(
            List.of(
                new Edit.Heads(site, new int[] {0, 1}, 0.5f),
                new Edit.HeadAffine(site, new int[] {0, 1}, maps, offsets, "f")));
    List<Edit> drawn =
        new RandomPlans(CONFIG, plan, 4)
            .draw().interventions().stream().map(SteeringPlan.Intervention::edit).toList();
    assertEquals(4, drawn.size());
    Edit.Heads first = assertInstanceOf(Edit.Heads.class, drawn.get(0));
    Edit.HeadAffine second = assertInstanceOf(Edit.HeadAffine.class, drawn.get(3));
    assertEquals(drawn.get(1).site(), second.site(), "one head stands for one");
    assertArrayEquals(((Edit.Heads) drawn.get(1)).heads(), second.heads());
    assertEquals(7, second.a()[0]);
    assertEquals(5, second.b()[0]);
    for (Edit edit : drawn) {
      int head =
          edit instanceof Edit.Heads heads ? heads.heads()[0] : ((Edit.HeadAffine) edit).heads()[0];
      assertTrue(edit.site().layer() != 0 || head > 1, edit::toString);
    }
    assertEquals(0.5f, first.scale());
  }

  @Test
  void drawsDifferAndAreThoseOfTheirSeed() {
    SteeringPlan plan = SteeringPlan.of(Edit.clamp("blocks.1.mlp.hook_post", 3, 1));
    RandomPlans plans = new RandomPlans(CONFIG, plan, 2);
    int[] first = neurons(plans.draw());
    assertNotEquals(first[0], neurons(plans.draw())[0]);
    assertArrayEquals(first, neurons(new RandomPlans(CONFIG, plan, 2).draw()));
  }

  private static int[] neurons(SteeringPlan plan) {
    return ((Edit.Neurons) plan.interventions().getFirst().edit()).neurons();
  }

  @Test
  void tooFewOthersAreAClearError() {
    int[] most = new int[CONFIG.dMlp() / 2 + 1];
    Arrays.setAll(most, i -> i);
    Edit edit = Edit.scaleNeurons("blocks.0.mlp.hook_pre", 2, most);
    IllegalArgumentException error = assertThrows(IllegalArgumentException.class, () -> draw(edit));
    assertTrue(error.getMessage().contains("leave random plans out"), error.getMessage());
  }
}
