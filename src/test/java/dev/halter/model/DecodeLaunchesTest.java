package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.LaunchRecorder;
import dev.halter.device.LaunchRecorder.Launch;
import dev.halter.device.cuda.TestCuda;
import dev.halter.files.Json;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * What decode steps of Llama-3.1-8B in bf16 launch on a card of 132 multiprocessors: the file that
 * {@code tools/decode} makes its table of. With {@code -Dhalter.renew=true} it is written anew.
 */
class DecodeLaunchesTest {
  private static final Path FILE = Path.of("src/test/resources/decode-launches.jsonl");
  private static final int[] BATCHES = {1, 8, 32, 128};
  private static final int[] CONTEXTS = {1024, 8192};

  /** Batch, context and how much of it all rows share. */
  private static final int[][] SHARED = {{32, 1088, 1024}, {128, 1088, 1024}, {128, 8256, 8192}};

  /**
   * A step of rows of which the first {@code shared} tokens are one prompt's, known by its pages.
   */
  private static Object step(int batch, int context, int shared) {
    Beginning prompt = new Beginning(new int[shared]);
    int pages = batch * KvCache.pagesFor(context);
    Llama.Limits limits = new Llama.Limits(batch, batch, batch, pages, context);
    ModelConfig config = Weightless.llama8b(32);
    try (Arena arena = Arena.ofConfined();
        LaunchRecorder device = new LaunchRecorder(TestCuda.open(), 132);
        Llama model =
            new Llama(device, config, Weightless.weights(config, arena), DType.BF16, limits)) {
      Batch tokens = new Batch();
      for (int i = 0; i < batch; i++) {
        int sequence = model.cache().open();
        model.cache().reserve(sequence, context);
        if (shared > 0 && i == 0) {
          model.cache().keep(sequence, prompt);
        } else if (shared > 0) {
          assertEquals(shared, model.cache().share(sequence, prompt));
        }
        tokens.add(sequence, context - 1, new int[] {1}, new int[1], 0);
      }
      device.launches(); // those of the checks at the start
      model.forward(tokens, null);
      List<Object> launches = new ArrayList<>();
      device.launches().forEach((launch, count) -> launches.add(told(launch, count)));
      return Json.object(
          "batch", batch, "context", context, "shared", shared, "launches", launches);
    }
  }

  private static Object told(Launch launch, int count) {
    return Json.object(
        "kernel",
        launch.kernel(),
        "launches",
        count,
        "grid",
        List.of(launch.grid().x(), launch.grid().y(), launch.grid().z()),
        "block",
        launch.block(),
        "shared",
        launch.sharedBytes(),
        "bytes",
        launch.bytes());
  }

  @Test
  void areThoseOfTheTable() throws IOException {
    StringBuilder text = new StringBuilder();
    for (int batch : BATCHES) {
      for (int context : CONTEXTS) {
        text.append(Json.text(step(batch, context, 0))).append("\n");
      }
    }
    for (int[] step : SHARED) {
      text.append(Json.text(step(step[0], step[1], step[2]))).append("\n");
    }
    if (Boolean.getBoolean("halter.renew")) {
      Files.writeString(FILE, text);
    }
    assertEquals(
        Files.readString(FILE), text.toString(), "run tools/decode, which makes the table anew");
  }
}
