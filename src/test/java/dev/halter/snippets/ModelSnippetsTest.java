package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.model} show. */
class ModelSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void edits() {
    float[] vector = {3, 4};
    // @start region="edits"
    List<Edit> edits =
        List.of(
            Edit.clamp("blocks.2.mlp.hook_pre_linear", 32, 30),
            Edit.clampRange("blocks.2.mlp.hook_post", -1, 1, 4, 5, 6),
            Edit.scaleNeurons("blocks.0.mlp.hook_pre", 0.5, 17),
            Edit.scaleHeads("blocks.3.attn.hook_z", 0, 1, 3),
            Edit.add("blocks.1.hook_resid_post", vector, 2),
            Edit.ablate("blocks.1.hook_resid_mid", vector),
            Edit.clampProjection("blocks.1.hook_mlp_out", vector, -1, 1));
    // @end
    assertEquals(
        List.of(
            "neuron_clamp",
            "neuron_clamp",
            "neuron_clamp",
            "head_scale",
            "add",
            "ablate",
            "project_clamp"),
        edits.stream().map(Edit::op).toList());
    assertArrayEquals(new float[] {0.6f, 0.8f}, ((Edit.Ablate) edits.get(5)).unit());
  }

  @Test
  void aWrongEditIsAnErrorThatNamesTheRange() {
    refused("cannot act at", () -> Edit.clamp("blocks.2.hook_resid_post", 1, 1));
    refused("cannot act at", () -> Edit.scaleHeads("blocks.2.mlp.hook_post", 0, 1));
    refused("cannot act at", () -> Edit.add("blocks.2.attn.hook_z", new float[] {1}, 1));
    refused("no site", () -> Edit.clamp("blocks.2.mlp.hook_up", 1, 1));
    refused("name a single layer", () -> Edit.clamp("blocks.*.mlp.hook_pre", 1, 1));
    refused("no direction", () -> Edit.ablate("hook_embed", new float[4]));
    refused("at most max", () -> Edit.clampRange("blocks.2.mlp.hook_pre", 2, 1, 1));
    refused("at most max", () -> Edit.clamp("blocks.2.mlp.hook_pre", 1, Double.NaN));
    refused("finite", () -> Edit.scaleHeads("blocks.2.attn.hook_z", Double.NaN, 1));
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      ModelConfig config = model.config();
      String z = "blocks.0.attn.hook_z";
      for (Edit edit :
          List.of(
              Edit.clamp("blocks.99.mlp.hook_pre", 1, 1),
              Edit.clamp("blocks.0.mlp.hook_pre", config.dMlp(), 1),
              Edit.clamp("blocks.0.mlp.hook_pre", -1, 1),
              Edit.scaleHeads(z, 0, config.nHeads()),
              Edit.scaleHeads(z, 0, 1, 1),
              Edit.add("hook_embed", new float[config.dModel() + 1], 1),
              Edit.ablate("hook_embed", new float[] {1, 2}))) {
        SteeringPlan plan = SteeringPlan.of(edit);
        refused(edit.op(), () -> model.generate("My favourite", plan));
      }
      assertFalse(model.generate("My favourite animal is").text().isEmpty());
    }
  }

  private static void refused(String part, Runnable act) {
    String message = assertThrows(IllegalArgumentException.class, act::run).getMessage();
    assertTrue(message.contains(part), message);
  }

  @Test
  void read() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="read"
      Capture acts = model.read("A dog is an animal", "blocks.*.hook_resid_post");
      float[] last = acts.at(2, -1); // layer 2, last token: [d_model]
      float[] first = acts.at("blocks.0.hook_resid_post", 0);
      // @end
      assertEquals(model.config().dModel(), last.length);
      float[] all = acts.values().get(Site.of("blocks.2.hook_resid_post"));
      int d = last.length;
      assertEquals(acts.length() * d, all.length);
      assertArrayEquals(Arrays.copyOfRange(all, all.length - d, all.length), last);
      assertArrayEquals(acts.at(0, -acts.length()), first);
      refused("position", () -> acts.at(0, acts.length()));
      refused("not captured", () -> acts.at("hook_embed", 0));
      refused("layer 99", () -> acts.at(99, 0));

      Capture pattern = model.read("A dog is an animal", "blocks.1.attn.hook_pattern");
      float[] looks = pattern.at(1, -1);
      int n = pattern.length();
      for (int head = 0; head < model.config().nHeads(); head++) {
        double sum = 0;
        for (int key = 0; key < n; key++) {
          sum += looks[head * n + key];
        }
        assertEquals(1, sum, 1e-5, "head " + head);
      }
    }
  }
}
