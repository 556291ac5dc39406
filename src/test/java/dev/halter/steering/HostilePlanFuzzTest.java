package dev.halter.steering;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.halter.files.BadFileException;
import dev.halter.weights.ModelConfig;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * Any text makes a plan or a {@link BadFileException}, never another exception. {@code mvn test}
 * runs the inputs kept in the folder of this class's resources. {@code JAZZER_FUZZ=1 mvn test
 * -Djazzer.hooks=true -Dtest=HostilePlanFuzzTest} looks for more.
 */
class HostilePlanFuzzTest {
  private static final Path FOLDER = Path.of("src/test/resources/goldens/llama3");
  private static final ModelConfig CONFIG = ModelConfig.read(FOLDER.resolve("model"));
  private static final int[] PROMPT = {1, 2, 3};

  @FuzzTest(maxDuration = "60s")
  void planInput(byte[] bytes) {
    try {
      String text = new String(bytes, StandardCharsets.UTF_8);
      SteeringPlan plan = SteeringPlan.parse(text, FOLDER, CONFIG);
      for (SteeringPlan.Intervention intervention : plan.interventions()) {
        Trigger trigger = intervention.trigger();
        if (!trigger.actsOnPrompt(PROMPT) && !trigger.actsOnGeneration()) {
          trigger.beyondPrompt(PROMPT.length);
        }
      }
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    }
  }
}
