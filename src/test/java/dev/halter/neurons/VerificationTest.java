package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Concept neurons of the model that ships, found by search, against random ones. */
class VerificationTest {
  private static final float[] VALUES = {20, 40, -20, -40};

  @Test
  void neuronsFoundForAConceptChangeTheAnswerAndControlsDoNot() {
    Path folder = Path.of("src/main/models/demo");
    try (LanguageModel model =
        LanguageModel.at(folder)
            .device("cpu")
            .dtype("f32")
            .threads(2)
            .context(128)
            .maxBatch(64)
            .open()) {
      NeuronSearch search =
          new NeuronSearch(
              NeuronMap.of(model.llama(), Projection.UP, Decode.RAW, Sign.BOTH, 10, n -> {}));
      int[] prompt = model.encode(List.of(new Message("user", "What is your favourite animal?")));
      for (String animal : List.of("dog", "horse")) {
        check(model, search, prompt, model.tokensOf(animal));
      }
    }
  }

  private static void check(
      LanguageModel model, NeuronSearch search, int[] prompt, Set<Integer> concept) {
    List<Hit> hits =
        search.byToken(concept, NeuronSearch.Bounds.NONE).stream()
            .filter(hit -> hit.rank() == 0)
            .toList();
    Verification found =
        Verification.of(
            model.engine(), prompt, concept, search, hits, Site.Kind.PRE_LINEAR, VALUES, 0);
    assertFalse(concept.contains(found.before().topToken()), "unclamped it is another answer");
    assertEquals(hits.size(), found.trials().size());
    Verification.Trial best = found.trials().getFirst();
    assertTrue(concept.contains(best.best().effect().topToken()));
    assertEquals(0, best.best().effect().rank());
    double last = 1;
    for (Verification.Trial trial : found.trials()) {
      assertTrue(trial.best().effect().probability() <= last, "sorted by effect");
      last = trial.best().effect().probability();
      // No control comes near, with as many tries.
      assertFalse(concept.contains(trial.controlBest().effect().topToken()));
      assertTrue(
          trial.controlBest().effect().probability() - found.before().probability()
              < 0.1 * (best.best().effect().probability() - found.before().probability()));
      assertNotEquals(trial.hit().neuron(), trial.control());
      for (Hit own : search.byNeuron(trial.hit().layer(), trial.control(), 10)) {
        assertFalse(concept.contains(own.tokenId()), "a control knows the concept");
      }
      assertEquals(
          VALUES[0] * trial.hit().sign(), trial.clamps().getFirst().value(), "in the sign's way");
    }
    // A clamp among many others does what it does alone.
    Site site = new Site(Site.Kind.PRE_LINEAR, best.hit().layer());
    SteeringPlan alone =
        SteeringPlan.of(Edit.clamp(site, best.hit().neuron(), best.best().value()));
    assertEquals(
        best.best().effect(),
        DoseResponse.of(model.engine(), prompt, concept, List.of(alone)).getFirst());
  }
}
