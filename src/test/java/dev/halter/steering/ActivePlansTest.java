package dev.halter.steering;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.model.Edit;
import java.util.List;
import org.junit.jupiter.api.Test;

class ActivePlansTest {
  private static SteeringPlan heads(String name, double scale) {
    return SteeringPlan.of(Edit.scaleHeads("blocks.1.attn.hook_z", scale, 0)).named(name);
  }

  private static List<Float> scales(ActivePlans plans) {
    return plans.plan().interventions().stream()
        .map(each -> ((Edit.Heads) each.edit()).scale())
        .toList();
  }

  @Test
  void plansActInTheirOrderAndAreScaledSwitchedAndTakenAway() {
    ActivePlans plans = new ActivePlans();
    assertSame(SteeringPlan.NONE, plans.plan());
    plans.put("a", heads("a", 0));
    plans.put("b", heads("b", 3));
    assertEquals(List.of(0f, 3f), scales(plans));
    assertEquals("a, b", plans.toString());
    assertSame(plans.plan(), plans.plan());

    plans.scale("b", 0.5);
    assertEquals(List.of(0f, 2f), scales(plans));
    assertEquals("a, b ×0.5", plans.toString());
    assertEquals("a, b ×0.5", plans.plan().name());

    plans.turn("a", false);
    assertEquals(List.of(2f), scales(plans));
    assertEquals("a off, b ×0.5", plans.toString());
    plans.turn("a", true);
    assertEquals(List.of(0f, 2f), scales(plans));

    plans.remove("a");
    assertEquals(List.of("b"), plans.names());
    plans.scale("b", 0);
    assertSame(SteeringPlan.NONE, plans.plan(), "at strength 0 there is nothing to do");
  }

  @Test
  void aPlanOfTheSameNameTakesThePlaceAndTheStrengthOfTheOther() {
    ActivePlans plans = new ActivePlans();
    plans.put("a", heads("a", 0));
    plans.put("b", heads("b", 3));
    plans.scale("a", 2);
    plans.turn("a", false);
    plans.put("a", heads("a", 0.5));
    assertEquals("a ×2, b", plans.toString());
    assertEquals(List.of(0f, 3f), scales(plans));
  }

  @Test
  void aNameThatThereIsNotIsRefusedWithThoseThatThereAre() {
    ActivePlans plans = new ActivePlans();
    assertThrows(IllegalArgumentException.class, () -> plans.remove("a"));
    plans.put("a", heads("a", 0));
    String error =
        assertThrows(IllegalArgumentException.class, () -> plans.turn("b", false)).getMessage();
    assertTrue(error.contains("'b'") && error.contains("there are a"), error);
  }
}
