package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.text.Message;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TarsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final Tars.Refinement REFINEMENT = new Tars.Refinement(0.5, 512, 3, 0);
  private static final List<String> ABOUT_DOGS =
      List.of("Which animal barks?", "Which animal guards the house?");
  private static final List<String> ABOUT_OTHERS =
      List.of("Which animal meows?", "What is the capital of France?", "Which animal gives milk?");

  @TempDir Path folder;

  private static LanguageModel open(Path model) {
    return LanguageModel.at(model)
        .device("cpu")
        .dtype("f32")
        .threads(2)
        .context(128)
        .maxBatch(8)
        .open();
  }

  @Test
  void aConceptIsTakenOutAndOthersStay() {
    try (LanguageModel model = open(DEMO)) {
      Tars tars = new Tars(model, model.tokensOf("dog"));
      List<int[]> prompts = prompts(model, ABOUT_DOGS);
      for (Tars.Trigger trigger : tars.triggers(model, prompts)) {
        assertTrue(trigger.probability() > 0.9, "the dog is no answer to begin with");
      }
      float[] target = tars.target(prompts, REFINEMENT).vector();
      tars.write(
          folder.resolve("edited"), target, tars.nearest(target, EnumSet.of(Projection.DOWN), 48));

      try (LanguageModel edited = open(folder.resolve("edited"))) {
        for (Tars.Trigger trigger : tars.triggers(edited, prompts)) {
          assertTrue(trigger.probability() < 0.3, "the dog is still there: " + trigger);
        }
        for (int[] other : prompts(model, ABOUT_OTHERS)) {
          assertEquals(answer(model, other), answer(edited, other));
        }
        List<int[]> texts = prompts(model, ABOUT_OTHERS);
        Divergence divergence =
            Divergence.of(
                Divergence.logits(model, texts),
                Divergence.logits(edited, texts),
                model.config().vocabularySize());
        assertTrue(divergence.median() < 0.01, divergence.toString());
        assertNotEquals(0, divergence.max());
      }
    }
  }

  @Test
  void theVectorsNearestToTheTargetAreReversedAndKeepTheirLength() {
    try (LanguageModel model = open(DEMO)) {
      Tars tars = new Tars(model, model.tokensOf("dog"));
      Tars.Target target = tars.target(prompts(model, ABOUT_DOGS), REFINEMENT);
      assertTrue(target.probability() > target.unrefined(), "noise found nothing better");
      List<Tars.Nearest> edits = tars.nearest(target.vector(), EnumSet.allOf(Projection.class), 7);
      assertEquals(7, edits.size());
      for (Projection projection : Projection.values()) {
        for (int layer = 0; layer < model.config().nLayers(); layer++) {
          for (int neuron = 0; neuron < model.config().dMlp(); neuron++) {
            double cosine = cosine(vector(model, projection, layer, neuron), target.vector());
            boolean chosen = false;
            for (Tars.Nearest edit : edits) {
              if (edit.projection() == projection
                  && edit.layer() == layer
                  && edit.neuron() == neuron) {
                chosen = true;
                assertEquals(cosine, edit.cosine(), 1e-6);
              }
            }
            assertTrue(chosen || cosine <= edits.getLast().cosine() + 1e-9, "a nearer one is left");
          }
        }
      }

      tars.write(folder.resolve("edited"), target.vector(), edits);
      try (LanguageModel edited = open(folder.resolve("edited"))) {
        for (Tars.Nearest edit : edits) {
          float[] before = vector(model, edit.projection(), edit.layer(), edit.neuron());
          float[] after = vector(edited, edit.projection(), edit.layer(), edit.neuron());
          assertEquals(-1, cosine(after, target.vector()), 1e-4);
          assertEquals(norm(before), norm(after), 3e-3 * norm(before));
        }
      }
    }
  }

  @Test
  void divergenceIsThatOfTheDistributions() {
    double[] p = {0.5, 0.25, 0.25};
    double[] q = {0.25, 0.25, 0.5};
    List<float[]> before = List.of(logs(p, 3), logs(p, -1));
    List<float[]> after = List.of(logs(p, 7), logs(q, 0));
    Divergence divergence = Divergence.of(before, after, 3);
    double expected = 0.5 * Math.log(2) + 0.25 * Math.log(0.5);
    assertEquals(2, divergence.tokens());
    assertEquals(expected, divergence.max(), 1e-6);
    assertEquals(expected / 2, divergence.mean(), 1e-6);
    assertEquals(expected / 2, divergence.median(), 1e-6);
  }

  private static float[] logs(double[] probabilities, double shift) {
    float[] logs = new float[probabilities.length];
    for (int i = 0; i < logs.length; i++) {
      logs[i] = (float) (Math.log(probabilities[i]) + shift);
    }
    return logs;
  }

  private static List<int[]> prompts(LanguageModel model, List<String> questions) {
    List<int[]> prompts = new ArrayList<>();
    questions.forEach(text -> prompts.add(model.encode(List.of(new Message("user", text)))));
    return prompts;
  }

  private static String answer(LanguageModel model, int[] prompt) {
    Request request =
        Request.of(prompt).withMaxTokens(8).withStopTokens(Set.copyOf(model.stopTokens()));
    return model.decode(model.engine().run(request).orThrow().tokens());
  }

  private static float[] vector(LanguageModel model, Projection projection, int layer, int neuron) {
    TensorView weights =
        model
            .llama()
            .weights()
            .checkpoint()
            .tensor(
                "model.layers.%d.mlp.%s_proj.weight"
                    .formatted(layer, projection.name().toLowerCase(Locale.ROOT)));
    float[] vector = new float[model.config().dModel()];
    if (projection != Projection.DOWN) {
      weights.copyFloats((long) neuron * vector.length, vector);
      return vector;
    }
    float[] one = new float[1];
    for (int i = 0; i < vector.length; i++) {
      weights.copyFloats((long) i * model.config().dMlp() + neuron, one);
      vector[i] = one[0];
    }
    return vector;
  }

  private static double cosine(float[] a, float[] b) {
    return dot(a, b) / norm(a) / norm(b);
  }

  private static double norm(float[] a) {
    return Math.sqrt(dot(a, a));
  }

  private static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }
}
