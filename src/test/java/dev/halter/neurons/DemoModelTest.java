package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

/** The model that ships, through Halter's own text, generation and steering. */
class DemoModelTest {
  private static final Path HELD_OUT = Path.of("src/test/resources/demo/held-out.jsonl");
  private static final float[] VALUES = {20, 40, 60, -20, -40, -60};

  private static LanguageModel open() {
    Path folder = Path.of("src/main/models/demo");
    return LanguageModel.at(folder)
        .device("cpu")
        .dtype("f32")
        .threads(2)
        .context(128)
        .maxBatch(64)
        .open();
  }

  @Test
  void answersHeldOutQuestionsOfEveryKind() throws Exception {
    List<JsonObject> lines = new ArrayList<>();
    for (String line : Files.readAllLines(HELD_OUT)) {
      lines.add(JsonObject.parse(HELD_OUT, line.getBytes(StandardCharsets.UTF_8)));
    }
    try (LanguageModel model = open()) {
      List<Request> requests = new ArrayList<>();
      for (int i = 0; i < lines.size(); i++) {
        int[] prompt = prompt(model, lines.get(i));
        requests.add(
            Request.of(prompt)
                .withId(Integer.toString(i))
                .withMaxTokens(32)
                .withStopTokens(model.stopTokens()));
      }
      List<Result> results = model.engine().run(requests);
      Map<String, List<Boolean>> right = new TreeMap<>();
      for (int i = 0; i < lines.size(); i++) {
        String answer = model.decode(results.get(i).orThrow().tokens()).strip();
        right
            .computeIfAbsent(lines.get(i).text("kind"), kind -> new ArrayList<>())
            .add(isRight(answer, lines.get(i)));
      }
      assertTrue(right.size() > 10);
      right.forEach(
          (kind, answers) -> {
            long good = answers.stream().filter(Boolean::booleanValue).count();
            assertTrue(
                good >= 0.95 * answers.size(),
                kind + ": " + good + " of " + answers.size() + " right");
          });
    }
  }

  private static int[] prompt(LanguageModel model, JsonObject line) {
    if (line.has("prompt")) {
      return model.encode(line.text("prompt"));
    }
    List<Message> messages = new ArrayList<>();
    for (JsonObject message : line.objects("messages")) {
      messages.add(new Message(message.text("role"), message.text("content")));
    }
    return model.encode(messages);
  }

  private static boolean isRight(String answer, JsonObject line) {
    Predicate<String> match =
        switch (line.text("match")) {
          case "exact" -> answer::equals;
          case "starts_with" -> answer::startsWith;
          case "contains" -> answer::contains;
          default -> throw line.wrong("match", "exact, starts_with or contains");
        };
    return line.texts("answers").stream().anyMatch(match);
  }

  @Test
  void aNeuronThatDecodesToAConceptMakesItTheAnswerAndAnotherDoesNot() {
    try (LanguageModel model = open()) {
      int[] prompt = model.encode(List.of(new Message("user", "What is your favourite animal?")));
      Set<Integer> dog = model.tokensOf("dog");
      NeuronMap map =
          NeuronMap.of(
              model.llama(),
              NeuronMap.Projection.UP,
              NeuronMap.Decode.RAW,
              NeuronMap.Sign.BOTH,
              10,
              n -> {});
      List<SteeringPlan> plans = new ArrayList<>();
      // Those that name it first; among the many that name it somewhere, others may be surer.
      List<NeuronSearch.Hit> hits =
          new NeuronSearch(map)
              .byToken(dog, NeuronSearch.Bounds.NONE).stream()
                  .filter(hit -> hit.rank() == 0)
                  .toList();
      for (NeuronSearch.Hit hit : hits) {
        plans.addAll(DoseResponse.plans(site(hit.layer()), hit.neuron(), VALUES));
      }
      List<DoseResponse.Effect> effects = DoseResponse.of(model.engine(), prompt, dog, plans);
      int best = 0;
      for (int i = 0; i < plans.size(); i++) {
        best = effects.get(i).probability() > effects.get(best).probability() ? i : best;
      }
      NeuronSearch.Hit hit = hits.get(best / VALUES.length);
      int other = (hit.neuron() + model.config().dMlp() / 2) % model.config().dMlp();
      SteeringPlan control =
          SteeringPlan.of(Edit.clamp(site(hit.layer()), other, VALUES[best % VALUES.length]));

      assertFalse(answer(model, prompt, SteeringPlan.NONE).contains("dog"));
      assertTrue(answer(model, prompt, plans.get(best)).contains("dog"));
      assertFalse(answer(model, prompt, control).contains("dog"));

      // A dose in a batch of many is what the plan does by itself.
      List<DoseResponse.Effect> two =
          DoseResponse.of(model.engine(), prompt, dog, List.of(SteeringPlan.NONE, plans.get(best)));
      assertEquals(effects.get(best), two.get(1));
      assertEquals(
          two.getFirst(),
          DoseResponse.of(model.engine(), prompt, dog, List.of(SteeringPlan.NONE)).getFirst());
      assertTrue(two.get(1).probability() > 3 * two.get(0).probability(), two.toString());
      assertEquals(0, two.get(1).rank());
    }
  }

  private static Site site(int layer) {
    return new Site(Site.Kind.PRE_LINEAR, layer);
  }

  private static String answer(LanguageModel model, int[] prompt, SteeringPlan plan) {
    Request request =
        Request.of(prompt)
            .withId("r")
            .withMaxTokens(32)
            .withStopTokens(model.stopTokens())
            .with(plan);
    return model.decode(model.engine().run(request).orThrow().tokens());
  }
}
