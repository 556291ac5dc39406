package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A plan at a strength makes so many times its change, whatever its operations are. */
class ScaledPlanTest {
  private static final String PROMPT = "The dog guards the house and the cat catches mice.";

  @TempDir static Path folder;

  private static LanguageModel model;

  @BeforeAll
  static void open() {
    model = LanguageModel.at(Path.of("src/main/models/demo")).device("cpu").dtype("f32").open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static float[] gaussian(int seed, int n) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** Every operation, each in a way in which it changes something. */
  private static List<Edit> edits() {
    int d = model.config().dModel();
    int dHead = model.config().dHead();
    float[] v = gaussian(1, d);
    int[] neurons = IntStream.range(0, 100).toArray();
    List<Edit> edits = new ArrayList<>();
    for (String site : List.of("hook_pre", "hook_pre_linear", "hook_post")) {
      edits.add(Edit.clamp("blocks.1.mlp." + site, 5, 3));
      edits.add(Edit.scaleNeurons("blocks.1.mlp." + site, 4, neurons));
      edits.add(Edit.clampRange("blocks.1.mlp." + site, -0.01, 0.02, neurons));
    }
    edits.add(Edit.scaleHeads("blocks.1.attn.hook_z", 0.25, 0, 3));
    edits.add(
        new Edit.HeadAffine(
            Site.of("blocks.1.attn.hook_z"),
            new int[] {1, 4},
            gaussian(2, 2 * dHead * dHead),
            gaussian(3, 2 * dHead),
            model.llama().fingerprint()));
    edits.add(Edit.add("blocks.1.hook_resid_post", v, 0.5));
    edits.add(Edit.ablate("blocks.1.hook_resid_post", v));
    edits.add(Edit.clampProjection("blocks.1.hook_resid_post", v, 1, 2));
    edits.add(RemoveConcepts.at("blocks.1.hook_resid_post", dictionary(d), "0", "1"));
    return edits;
  }

  private static Path dictionary(int d) {
    Path file = folder.resolve("d.safetensors");
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file, Map.of(), List.of(new TensorSpec("atoms", DType.F32, 20, d)))) {
      out.write("atoms", gaussian(4, 20 * d));
    }
    return file;
  }

  private static float[] read(Edit edit, SteeringPlan plan) {
    String site = edit.site().name();
    return model.read(model.request(PROMPT).with(plan), site).values().get(edit.site());
  }

  @Test
  void everyOperationGoesAsFarAsItsStrength() {
    for (Edit edit : edits()) {
      String name = edit.op() + " at " + edit.site();
      SteeringPlan plan = SteeringPlan.of(edit);
      float[] plain = read(edit, SteeringPlan.NONE);
      float[] full = read(edit, plan);
      double change = distance(plain, full);
      assertTrue(change > 1e-3, name + " changes nothing");
      assertArrayEquals(plain, read(edit, plan.scaled(0)), 1e-6f, name);
      assertArrayEquals(full, read(edit, plan.scaled(1)), name);
      for (double strength : new double[] {0.25, 0.5, 2, -1}) {
        float[] expected = new float[plain.length];
        for (int i = 0; i < plain.length; i++) {
          expected[i] = (float) (plain[i] + strength * (full[i] - plain[i]));
        }
        assertArrayEquals(expected, read(edit, plan.scaled(strength)), 2e-4f, name + strength);
      }
      assertArrayEquals(
          read(edit, plan.scaled(0.25)), read(edit, plan.scaled(0.5).scaled(0.5)), 1e-6f, name);
    }
  }

  private static double distance(float[] a, float[] b) {
    double squares = 0;
    for (int i = 0; i < a.length; i++) {
      squares += Math.pow(a[i] - b[i], 2);
    }
    return Math.sqrt(squares);
  }

  @Test
  void theReportTellsTheScaledChange() {
    for (Edit edit : edits()) {
      SteeringPlan plan = SteeringPlan.of(edit);
      double full = change(plan);
      assertTrue(full > 0, edit.op());
      assertEquals(0.5 * full, change(plan.scaled(0.5)), 1e-4 * (1 + full), edit.op());
      assertEquals(0, change(plan.scaled(0)), 1e-6, edit.op());
    }
  }

  private static double change(SteeringPlan plan) {
    Request request = model.request(PROMPT).withMaxTokens(0).with(plan);
    return model.generate(request).report().interventions().getFirst().meanChange();
  }

  @Test
  void aPlanKeepsItsNameAndItsTokens() {
    SteeringPlan plan =
        SteeringPlan.of(
                Edit.add("blocks.1.hook_resid_post", gaussian(1, model.config().dModel()), 40))
            .when(Trigger.LAST)
            .named("last");
    assertEquals("last", plan.scaled(0.5).name());
    assertEquals(
        plan.interventions().getFirst().trigger(),
        plan.scaled(0.5).interventions().getFirst().trigger());
    int[] asked = model.encode(PROMPT);
    assertNotEquals(
        Arrays.toString(model.generate(model.request(asked)).result().tokens()),
        Arrays.toString(model.generate(model.request(asked).with(plan)).result().tokens()));
    assertArrayEquals(
        model.generate(model.request(asked)).result().tokens(),
        model.generate(model.request(asked).with(plan.scaled(0))).result().tokens());
  }
}
