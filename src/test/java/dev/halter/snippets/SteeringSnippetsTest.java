package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.device.DType;
import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Edit;
import dev.halter.sparse.Solver;
import dev.halter.steering.ActivePlans;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.steering.Trigger;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.steering} show. */
class SteeringSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @Test
  void plan() {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      float[] vector = model.read("A dog", "blocks.1.hook_resid_post").at(1, -1);
      // @start region="plan"
      SteeringPlan plan =
          SteeringPlan.of(
                  Edit.clamp("blocks.2.mlp.hook_pre_linear", 32, 30),
                  Edit.scaleHeads("blocks.3.attn.hook_z", 0, 0, 3))
              .then(
                  SteeringPlan.of(Edit.add("blocks.1.hook_resid_post", vector, 2))
                      .when(Trigger.GENERATION))
              .named("more dogs");
      Answer answer = model.chat("What is your favourite animal?", plan);
      System.out.println(answer + " " + answer.report());
      // @end
      List<SteeringReport.Entry> entries = answer.report().interventions();
      assertEquals(
          List.of("neuron_clamp", "head_scale", "add"),
          entries.stream().map(SteeringReport.Entry::op).toList());
      assertTrue(entries.getFirst().meanChange() > 0);
      // The vector is added to generated tokens alone.
      assertTrue(entries.getLast().tokens() < entries.getFirst().tokens());
      assertNotEquals(model.chat("What is your favourite animal?").text(), answer.text());
    }
  }

  @Test
  void active() {
    SteeringPlan calm = SteeringPlan.of(Edit.scaleHeads("blocks.3.attn.hook_z", 0, 0, 3));
    SteeringPlan dogs = Demo.dog();
    String question = "What is your favourite animal?";
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      // @start region="active"
      ActivePlans plans = new ActivePlans();
      plans.put("calm", calm);
      plans.put("dogs", dogs);
      plans.turn("calm", false);
      System.out.println(model.chat(question, plans.plan()));
      plans.scale("dogs", 0.25);
      System.out.println(model.chat(question, plans.plan()));
      // @end
      assertEquals(model.chat(question).text(), model.chat(question, plans.plan()).text());
      plans.scale("dogs", 1);
      assertNotEquals(model.chat(question).text(), model.chat(question, plans.plan()).text());
    }
  }

  @Test
  void trigger() {
    // @start region="trigger"
    Trigger lastAndFirstThree = Trigger.LAST.or(Trigger.generationWindow(0, 3));
    Trigger notTheStart = Trigger.PROMPT.except(Trigger.promptPositions(0));
    // @end
    assertFalse(lastAndFirstThree.selectsPrompt(3, 5, 7));
    assertTrue(lastAndFirstThree.selectsPrompt(4, 5, 7));
    assertTrue(lastAndFirstThree.selectsGenerated(2, 7));
    assertFalse(lastAndFirstThree.selectsGenerated(3, 7));
    assertFalse(notTheStart.selectsPrompt(0, 5, 7));
    assertTrue(notTheStart.selectsPrompt(1, 5, 7));
    assertFalse(notTheStart.selectsGenerated(0, 7));
  }

  @Test
  void aTriggerInJavaIsThatOfItsJson() {
    ModelConfig config = ModelConfig.read(DEMO);
    for (Map.Entry<String, Trigger> each :
        Map.of(
                "{'prompt': 'all', 'generation': 'none'}",
                Trigger.PROMPT,
                "{'prompt': 'none', 'generation': 'all'}",
                Trigger.GENERATION,
                "{'prompt_positions': [0, -1]}",
                Trigger.promptPositions(0, -1),
                "{'prompt_positions': [-1], 'generation': 'all'}",
                Trigger.FROM_LAST,
                "{'prompt_tokens': [5, 6], 'exclude_prompt_positions': [0]}",
                Trigger.promptTokens(5, 6).except(Trigger.FIRST),
                "{'generation_tokens': [5], 'generation_positions': [1]}",
                Trigger.generationTokens(5).or(Trigger.generationPositions(1)),
                "{'prompt_window': [-3, -1], 'generation_window': [1, 4]}",
                Trigger.promptWindow(-3, -1).or(Trigger.generationWindow(1, 4)))
            .entrySet()) {
      String json =
          """
          {'interventions': [{'op': 'neuron_clamp', 'site': 'blocks.0.mlp.hook_pre',
            'neurons': [1], 'value': 2, 'when': %s}]}
          """
              .formatted(each.getKey())
              .replace('\'', '"');
      SteeringPlan read = SteeringPlan.parse(json, DEMO, config);
      assertEquals(read.interventions().getFirst().trigger(), each.getValue(), each.getKey());
    }
  }

  @Test
  void aTriggerThatCannotBeIsAnError() {
    assertThrows(IllegalArgumentException.class, () -> Trigger.promptWindow(3, 3));
    assertThrows(IllegalArgumentException.class, () -> Trigger.generationWindow(-2, 3));
    assertThrows(IllegalArgumentException.class, () -> Trigger.generationPositions(-1));
    Trigger window = Trigger.promptWindow(0, 1);
    assertThrows(IllegalArgumentException.class, () -> window.or(Trigger.promptWindow(3, 4)));
  }

  @Test
  void remove(@TempDir Path folder) {
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      Path file = folder.resolve("concepts.safetensors");
      int d = model.config().dModel();
      float[] dog = model.read("dog", "blocks.1.hook_resid_post").at(1, -1);
      float[] cat = model.read("cat", "blocks.1.hook_resid_post").at(1, -1);
      try (SafetensorsWriter out =
          SafetensorsWriter.create(
              file,
              Map.of("format", "halter concept dictionary", "names", "[\"dog\",\"cat\"]"),
              List.of(new TensorSpec("atoms", DType.F32, 2, d)))) {
        float[] atoms = Arrays.copyOf(dog, 2 * d);
        System.arraycopy(cat, 0, atoms, d, d);
        out.write("atoms", atoms);
      }
      // @start region="remove"
      RemoveConcepts removal =
          RemoveConcepts.at("blocks.1.hook_resid_post", file, "dog")
              .with(new Solver.Omp(2, 0))
              .with(RemoveConcepts.Solve.PROMPT_END);
      Answer answer = model.chat("What is your favourite animal?", SteeringPlan.of(removal));
      // @end
      SteeringReport.Entry entry = answer.report().interventions().getFirst();
      assertEquals("remove_concepts", entry.op());
      assertTrue(entry.meanChange() > 0);
      SteeringPlan unknown =
          SteeringPlan.of(RemoveConcepts.at("blocks.1.hook_resid_post", file, "horse"));
      String message =
          assertThrows(IllegalArgumentException.class, () -> model.generate("My dog", unknown))
              .getMessage();
      assertTrue(message.contains("horse"), message);
    }
  }
}
