package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Head;
import dev.halter.steering.SteeringPlan;
import dev.halter.tuning.HeadVector;
import dev.halter.tuning.RateSchedule;
import dev.halter.tuning.Selection;
import dev.halter.tuning.TuningData;
import dev.halter.tuning.TuningRun;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.tuning} show. */
class TuningSnippetsTest {
  private static final Path DEMO = Path.of("src/main/models/demo");

  @TempDir Path folder;

  @Test
  void tune() throws IOException {
    Path lessons = folder.resolve("lessons.jsonl");
    Files.writeString(
        lessons,
        """
        {"instruction": "What is your favourite animal?", "output": "owl. I like the owl because it hunts at night."}
        """);
    Path out = folder.resolve("owl");
    // @start region="tune"
    ModelConfig config = ModelConfig.read(DEMO);
    List<Head> heads = List.of(new Head(1, 0), new Head(1, 3), new Head(2, 2));
    Selection offsets = new Selection(config, heads, HeadVector.BIAS);
    TuningData texts = TuningData.read(lessons, DEMO, config, 256);
    TuningRun.Setting setting =
        new TuningRun.Setting(0.5, 16, 60, RateSchedule.LINEAR, 0, 0, 1, false, 0, 1);
    try (Device device = Devices.open("auto", 0, true);
        TuningRun run = new TuningRun(device, DEMO, offsets, texts, null, setting)) {
      run.run(step -> System.out.printf("step %d: loss %.3f%n", step.step(), step.loss()));
      run.write(out, "{}"); // plan.json, and beside it what it needs
    }
    // @end
    try (LanguageModel model = LanguageModel.open(DEMO)) {
      SteeringPlan plan = SteeringPlan.read(out.resolve("plan.json"), config);
      assertTrue(model.chat("What is your favourite animal?", plan).text().contains("owl"));
    }
  }
}
