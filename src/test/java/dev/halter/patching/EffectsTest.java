package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.model.Head;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Effects by head, by MLP and by size. */
class EffectsTest {
  private static final ModelConfig CONFIG =
      ModelConfig.read(Path.of("src/test/resources/goldens/llama3/model"));
  private static final int SENDERS = CONFIG.nHeads() + 1; // of a layer

  private final Effects effects = new Effects(CONFIG);

  private static EffectSums.Run run(float logit) {
    return new EffectSums.Run(logit, Float.NaN, Float.NaN);
  }

  @Test
  void aHeadAndAnMlpHaveWhatTheirPatchDid() {
    effects.add(SENDERS + 2, run(4), run(1));
    effects.add(2 * SENDERS - 1, run(4), run(6));
    assertEquals(-3, effects.of(new Head(1, 2)).delta());
    assertEquals(2, effects.ofMlp(1).delta());
    assertEquals(0, effects.of(new Head(0, 0)).pairs());
    assertTrue(Double.isNaN(effects.ofMlp(0).delta()));
  }

  @Test
  void theTopAreThoseThatMoveTheLogitMostEitherWay() {
    effects.add(SENDERS + 2, run(4), run(1));
    effects.add(2 * SENDERS - 1, run(4), run(9));
    effects.add(0, run(4), run(4.5f));
    effects.add(CONFIG.nHeads(), run(4), run(3.5f));
    assertEquals(
        List.of("mlp 1", "1.2", "0.0", "mlp 0"),
        effects.top(100).stream().map(Effects.Sender::name).toList());
    assertEquals(
        List.of("mlp 1", "1.2"), effects.top(2).stream().map(Effects.Sender::name).toList());
    assertEquals(new Head(1, 2), effects.top(2).getLast().head());
    assertEquals(CONFIG.nLayers() * SENDERS, effects.all().size());
  }

  @Test
  void ranksOfHeadsAndOfMlpsAreComparedEachByThemselves() {
    Effects other = new Effects(CONFIG);
    for (int sender = 0; sender < effects.size(); sender++) {
      effects.add(sender, run(0), run(sender));
      boolean isMlp = (sender + 1) % SENDERS == 0;
      other.add(sender, run(0), run(isMlp ? -sender : sender * sender));
    }
    assertEquals(1, effects.rankCorrelationOfHeads(other), 1e-12);
    assertEquals(-1, effects.rankCorrelationOfMlps(other), 1e-12);
    assertTrue(Double.isNaN(effects.rankCorrelationOfHeads(new Effects(CONFIG))));
  }

  @Test
  void whatTheModelHasNotIsAnError() {
    assertThrows(IllegalArgumentException.class, () -> effects.of(new Head(0, CONFIG.nHeads())));
    assertThrows(IllegalArgumentException.class, () -> effects.of(new Head(-1, 0)));
    assertThrows(IllegalArgumentException.class, () -> effects.ofMlp(CONFIG.nLayers()));
    assertThrows(IllegalArgumentException.class, () -> effects.ofMlp(-1));
  }
}
